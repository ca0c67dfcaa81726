rule measure_memory:
    input:
        data=measured_shape,
    output:
        csv="<results>/{study}/figures/{figure}.csv",
    log:
        "<logs>/measure_memory/{figure}.log",
    benchmark:
        "<benchmarks>/measure_memory/{figure}.jsonl"
    wildcard_constraints:
        figure="figure7",
    conda:
        "../../environment.yml"
    threads: cores
    resources:
        gpu=gpus,
        mem_mb=16000,
        runtime="2h",
    params:
        spec=spec_of("footprint"),
        code=code_of("footprint"),
        device=asked_device,
    message:
        "Measure memory for {wildcards.figure}"
    shell:
        "python -m esp_core footprint --spec {params.spec:q} --device {params.device} --data {input.data:q} --out {output.csv:q} > {log:q} 2>&1"


rule plot_memory:
    input:
        csv="<results>/{study}/figures/{figure}.csv",
    output:
        png=report(
            "<results>/{study}/figures/{figure}.png",
            caption="../report/memory.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/{study}/figures/{figure}.pdf",
    log:
        "<logs>/plot_memory/{figure}.log",
    benchmark:
        "<benchmarks>/plot_memory/{figure}.jsonl"
    wildcard_constraints:
        figure="figure7",
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("plots"),
        code=code_of("plots"),
    message:
        "Draw {wildcards.figure}"
    shell:
        "python -m esp_core plots --spec {params.spec:q} --rows {input.csv:q} --out {output.png:q} > {log:q} 2>&1"


rule plot_batches:
    input:
        rows=swept,
    output:
        png=report(
            "<results>/{study}/figures/{figure}.png",
            caption="../report/batches.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/{study}/figures/{figure}.pdf",
        csv="<results>/{study}/figures/{figure}.csv",
    log:
        "<logs>/plot_batches/{figure}.log",
    benchmark:
        "<benchmarks>/plot_batches/{figure}.jsonl"
    wildcard_constraints:
        figure="figure8",
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("plots"),
        code=code_of("plots"),
    message:
        "Draw {wildcards.figure}"
    shell:
        "python -m esp_core plots --spec {params.spec:q} --rows {input.rows:q} --out {output.png:q} > {log:q} 2>&1"
