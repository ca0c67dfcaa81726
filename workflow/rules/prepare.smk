rule prepare:
    input:
        # Verified against constants: a new date, or a word in the catalogue, is not new data.
        files=ancient(official),
    output:
        data="results/{study}/data/{dataset}.h5",
    log:
        "results/{study}/logs/prepare/{dataset}.log",
    benchmark:
        "results/{study}/benchmarks/prepare/{dataset}.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="1h",
    params:
        spec=spec_of("prepare"),
        code=code_of("prepare"),
        files=option("--files", official),
    shell:
        "python -m esp_core.prepare --spec {params.spec:q} {params.files}"
        " --out {output.data:q} > {log:q} 2>&1"
