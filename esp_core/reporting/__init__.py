"""From the per-seed rows of an evaluated study to tables, comparisons, figures and claims."""
