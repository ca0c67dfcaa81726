rule tabulate:
    input:
        rows=evaluated,
        published=PUBLISHED,
    output:
        csv="<results>/{study}/tables/table{table}.csv",
        html=report(
            "<results>/{study}/tables/table{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels=lambda wildcards: {"table": table_name(wildcards.table)},
        ),
        md="<results>/{study}/tables/table{table}.md",
        tex="<results>/{study}/tables/table{table}.tex",
    log:
        "<logs>/tabulate/table{table}.log",
    benchmark:
        "<benchmarks>/tabulate/table{table}.jsonl"
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("tables"),
        code=code_of("tables"),
    message:
        "Write {output.csv}"
    shell:
        "python -m esp_core tables --spec {params.spec:q} --rows {input.rows:q}"
        " --published {input.published:q} --out {output.csv:q} > {log:q} 2>&1"


rule compare:
    input:
        rows=compared,
        published=PUBLISHED,
    output:
        csv="<results>/{study}/tables/comparisons.csv",
        html=report(
            "<results>/{study}/tables/comparisons.html",
            caption="../report/comparisons.rst",
            category="Tables",
            labels={"table": "comparisons"},
        ),
        md="<results>/{study}/tables/comparisons.md",
        tex="<results>/{study}/tables/comparisons.tex",
    log:
        "<logs>/compare/comparisons.log",
    benchmark:
        "<benchmarks>/compare/comparisons.jsonl"
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("comparisons"),
        code=code_of("comparisons"),
    message:
        "Compare methods seed by seed"
    shell:
        "python -m esp_core comparisons --spec {params.spec:q} --rows {input.rows:q}"
        " --published {input.published:q} --out {output.csv:q} > {log:q} 2>&1"


rule draw_grid:
    input:
        condensed=pictured,
    output:
        png=report(
            "<results>/{study}/figures/{figure}.png",
            caption="../report/grid.rst",
            category="Synthetic images",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/{study}/figures/{figure}.pdf",
    log:
        "<logs>/draw_grid/{figure}.log",
    benchmark:
        "<benchmarks>/draw_grid/{figure}.jsonl"
    wildcard_constraints:
        figure="|".join(
            re.escape(name) for name, one in STUDY.figures.items() if one.is_grid
        ),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        spec=spec_of("grids"),
        code=code_of("grids"),
    message:
        "Draw the images of {wildcards.figure}"
    shell:
        "python -m esp_core grids --spec {params.spec:q} --condensed {input.condensed:q}"
        " --out {output.png:q} > {log:q} 2>&1"
