# What cannot be trained or condensed is told here once, before any shard. Only what the experts depend on runs it, and so them, again.
rule try_distill_network:
    input:
        data="<results>/{study}/data/{dataset}.h5",
    output:
        tried="<results>/{study}/data/{dataset}.network.json",
    log:
        "<logs>/try_distill_network/{dataset}.log",
    benchmark:
        "<benchmarks>/try_distill_network/{dataset}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="1h",
    params:
        spec=spec_of("network"),
        code=code_of("network"),
        trial=whole_trial,
    message:
        "Try the network of the experts of {wildcards.dataset}"
    shell:
        "python -m esp_core trial --spec {params.trial:q} --data {input.data:q}"
        " --out {output.tried:q} > {log:q} 2>&1"


rule train_experts:
    input:
        data="<results>/{study}/data/{dataset}.h5",
        network="<results>/{study}/data/{dataset}.network.json",
    output:
        shard="<results>/{study}/experts/{dataset}/shard-{shard}.h5",
    log:
        "<logs>/train_experts/{dataset}/shard-{shard}.log",
    benchmark:
        "<benchmarks>/train_experts/{dataset}/shard-{shard}.jsonl"
    conda:
        "../../environment.yml"
    threads: cores
    resources:
        gpu=gpus,
        mem_mb=8000,
        runtime="8h",
    params:
        spec=spec_of("experts"),
        code=code_of("experts"),
        device=asked_device,
    message:
        "Train experts of {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "python -m esp_core experts train --spec {params.spec:q} --device {params.device} --data {input.data:q}"
        " --out {output.shard:q} > {log:q} 2>&1"


rule list_experts:
    input:
        shards=shards,
    output:
        manifest="<results>/{study}/experts/{dataset}/manifest.json",
    log:
        "<logs>/list_experts/{dataset}.log",
    benchmark:
        "<benchmarks>/list_experts/{dataset}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        spec=spec_of("manifest"),
        code=code_of("manifest"),
    message:
        "List the experts of {wildcards.dataset}"
    shell:
        "python -m esp_core experts manifest --spec {params.spec:q} --shards {input.shards:q}"
        " --out {output.manifest:q} > {log:q} 2>&1"
