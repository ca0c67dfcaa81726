rule judge_claims:
    input:
        rows=every("evaluate"),
        figures=numbers_of_figures,
        published=PUBLISHED,
        claims=CLAIMS,
    output:
        csv="<results>/{study}/tables/claims.csv",
        html=report(
            "<results>/{study}/tables/claims.html",
            caption="../report/claims.rst",
            category="Claims",
        ),
        md="<results>/{study}/tables/claims.md",
    log:
        "<logs>/judge_claims/claims.log",
    benchmark:
        "<benchmarks>/judge_claims/claims.jsonl"
    conda:
        "../envs/reporting.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        spec=spec_of("claims"),
        code=code_of("claims"),
    message:
        "Judge the paper's claims"
    shell:
        "python -m esp_core claims --spec {params.spec:q} --rows {input.rows:q} --figures {input.figures:q}"
        " --published {input.published:q} --claims {input.claims:q} --out {output.csv:q} > {log:q} 2>&1"
