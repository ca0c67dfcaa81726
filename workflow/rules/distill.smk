rule distill:
    input:
        data="<results>/{study}/data/{dataset}.h5",
        experts=manifest,
        # The manifest holds a digest of each shard, so that a shard's date does not count.
        shards=ancient(taught_by),
    output:
        condensed="<results>/{study}/distilled/{dataset}/ipc-{ipc}/{method}.safetensors",
    log:
        "<logs>/distill/{dataset}/ipc-{ipc}/{method}.log",
    benchmark:
        "<benchmarks>/distill/{dataset}/ipc-{ipc}/{method}.jsonl"
    wildcard_constraints:
        method=methods_of(imported=False),
    conda:
        "../../environment.yml"
    threads: cores
    resources:
        gpu=gpus,
        mem_mb=16000,
        runtime="12h",
    params:
        spec=spec_of("distill"),
        code=code_of("distill"),
        device=asked_device,
        experts=option("--experts", "experts"),
    message:
        "Condense {wildcards.dataset} at IPC {wildcards.ipc} by {wildcards.method}"
    shell:
        "python -m esp_core distill run --spec {params.spec:q} --device {params.device} --code {params.code}"
        " --data {input.data:q} {params.experts}"
        " --out {output.condensed:q} > {log:q} 2>&1"


rule import_set:
    input:
        data="<results>/{study}/data/{dataset}.h5",
        files=others_files,
    output:
        condensed="<results>/{study}/distilled/{dataset}/ipc-{ipc}/{method}.safetensors",
    log:
        "<logs>/import_set/{dataset}/ipc-{ipc}/{method}.log",
    benchmark:
        "<benchmarks>/import_set/{dataset}/ipc-{ipc}/{method}.jsonl"
    wildcard_constraints:
        method=methods_of(imported=True),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        spec=spec_of("import_set"),
        code=code_of("import_set"),
    message:
        "Import {wildcards.method} for {wildcards.dataset} at IPC {wildcards.ipc}"
    shell:
        "python -m esp_core import {input.files:q} --spec {params.spec:q} --code {params.code}"
        " --data {input.data:q} --out {output.condensed:q} > {log:q} 2>&1"
