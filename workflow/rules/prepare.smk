rule prepare:
    input:
        files=official,
    output:
        data="<results>/{study}/data/{dataset}.h5",
    log:
        "<logs>/prepare/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare/{dataset}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,  # TinyImageNet is 1.4 GB
        runtime="1h",
    params:
        spec=spec_of("prepare"),
        code=code_of("prepare"),
        files=option("--files", "files"),
    message:
        "Prepare {wildcards.dataset}"
    shell:
        "python -m esp_core prepare --spec {params.spec:q} {params.files}"
        " --out {output.data:q} > {log:q} 2>&1"


rule try_networks_and_sets:
    input:
        data="<results>/{study}/data/{dataset}.h5",
    output:
        tried="<results>/{study}/data/{dataset}.trial.json",
    log:
        "<logs>/try_networks_and_sets/{dataset}.log",
    benchmark:
        "<benchmarks>/try_networks_and_sets/{dataset}.jsonl"
    priority: 1  # before all that is long
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        spec=spec_of("trial"),
        code=code_of("trial"),
    message:
        "Try the networks and the condensed sets of {wildcards.dataset}"
    shell:
        "python -m esp_core trial --spec {params.spec:q} --data {input.data:q}"
        " --out {output.tried:q} > {log:q} 2>&1"
