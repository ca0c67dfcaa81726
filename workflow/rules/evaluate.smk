rule evaluate:
    input:
        data="<results>/{study}/data/{dataset}.h5",
        condensed="<results>/{study}/distilled/{dataset}/ipc-{ipc}/{method}.safetensors",
    output:
        rows="<results>/{study}/evaluated/{dataset}/ipc-{ipc}/{method}/{network}.csv",
    log:
        "<logs>/evaluate/{dataset}/ipc-{ipc}/{method}/{network}.log",
    benchmark:
        "<benchmarks>/evaluate/{dataset}/ipc-{ipc}/{method}/{network}.jsonl"
    conda:
        "../../environment.yml"
    threads: cores
    resources:
        gpu=gpus,
        mem_mb=8000,
        runtime="8h",
    params:
        spec=spec_of("evaluate"),
        code=code_of("evaluate"),
        device=asked_device,
    message:
        "Test {wildcards.method} on {wildcards.network}: {wildcards.dataset}, IPC {wildcards.ipc}"
    shell:
        "python -m esp_core evaluate --spec {params.spec:q} --device {params.device} --code {params.code}"
        " --data {input.data:q} --condensed {input.condensed:q}"
        " --out {output.rows:q} > {log:q} 2>&1"


rule evaluate_full:
    input:
        data="<results>/{study}/data/{dataset}.h5",
    output:
        rows="<results>/{study}/evaluated/{dataset}/full/{network}.csv",
    log:
        "<logs>/evaluate_full/{dataset}/{network}.log",
    benchmark:
        "<benchmarks>/evaluate_full/{dataset}/{network}.jsonl"
    conda:
        "../../environment.yml"
    threads: cores
    resources:
        gpu=gpus,
        mem_mb=8000,
        runtime="24h",
    params:
        spec=spec_of("evaluate"),
        code=code_of("evaluate"),
        device=asked_device,
    message:
        "Test all of {wildcards.dataset} on {wildcards.network}"
    shell:
        "python -m esp_core evaluate --spec {params.spec:q} --device {params.device} --code {params.code}"
        " --data {input.data:q} --out {output.rows:q} > {log:q} 2>&1"
