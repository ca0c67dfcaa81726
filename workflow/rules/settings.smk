rule write_settings:
    output:
        yaml="<results>/{study}/tables/settings.yaml",
        html=report(
            "<results>/{study}/tables/settings.html",
            caption="../report/settings.rst",
            category="Configuration",
        ),
    log:
        "<logs>/write_settings/settings.log",
    benchmark:
        "<benchmarks>/write_settings/settings.jsonl"
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("settings"),
        code=code_of("settings"),
    message:
        "Write the settings of the study"
    shell:
        "python -m esp_core settings --spec {params.spec:q} --out {output.yaml:q} > {log:q} 2>&1"
