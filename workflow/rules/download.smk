rule download:
    output:
        files="<results>/downloads/{dataset}/files.json",
    log:
        "<results>/downloads/{dataset}/download.log",
    benchmark:
        "<results>/downloads/{dataset}/download.jsonl"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="2h",
    params:
        kind=kind,
        spec=fetched_from,
    message:
        "Download {wildcards.dataset}"
    shell:
        "python -m esp_core download --spec {params.spec:q} --out {output.files:q} > {log:q} 2>&1"
