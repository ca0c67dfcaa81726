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


rule draw_losses:
    input:
        condensed=sets_of,
        rows=rows_of,
    output:
        png=report(
            "<results>/{study}/figures/losses-{dataset}-ipc-{ipc}.png",
            caption="../report/losses.rst",
            category="Losses",
            labels={"dataset": "{dataset}", "IPC": "{ipc}"},
        ),
        pdf="<results>/{study}/figures/losses-{dataset}-ipc-{ipc}.pdf",
    log:
        "<logs>/draw_losses/{dataset}/ipc-{ipc}.log",
    benchmark:
        "<benchmarks>/draw_losses/{dataset}/ipc-{ipc}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="30m",
    params:
        spec=spec_of("losses"),
        code=code_of("losses"),
    message:
        "Draw the losses of {wildcards.dataset}, IPC {wildcards.ipc}"
    shell:
        "python -m esp_core losses --spec {params.spec:q} --condensed {input.condensed:q} --rows {input.rows:q}"
        " --out {output.png:q} > {log:q} 2>&1"
