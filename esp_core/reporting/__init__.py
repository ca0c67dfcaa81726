"""From the per-seed rows of an evaluated study to the paper's tables: layouts, reading, summary, rendering."""
