rule train_experts:
    input:
        data="results/{study}/data/{dataset}.h5",
    output:
        shard="results/{study}/experts/{dataset}/shard-{shard}.h5",
    log:
        "results/{study}/logs/train_experts/{dataset}/shard-{shard}.log",
    benchmark:
        "results/{study}/benchmarks/train_experts/{dataset}/shard-{shard}.jsonl"
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
        trial=trial_of,
    shell:
        "python -m esp_core experts train --spec {params.spec:q} --data {input.data:q}"
        " --trial {params.trial:q} --out {output.shard:q} > {log:q} 2>&1"


rule list_experts:
    input:
        shards=shards,
    output:
        manifest="results/{study}/experts/{dataset}/manifest.json",
    log:
        "results/{study}/logs/list_experts/{dataset}.log",
    benchmark:
        "results/{study}/benchmarks/list_experts/{dataset}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        spec=spec_of("manifest"),
        code=code_of("manifest"),
    shell:
        "python -m esp_core experts manifest --spec {params.spec:q} --shards {input.shards:q}"
        " --out {output.manifest:q} > {log:q} 2>&1"
