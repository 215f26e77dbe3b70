"""Reads an OpenMetrics text from standard input with the reference parser, which refuses what is invalid.

Prints what it found as JSON: families and samples, and every exemplar with its bucket's bounds, value and
labels, so that the caller can compare them with what it meant to expose.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def main():
    families = list(text_string_to_metric_families(sys.stdin.read()))
    samples = [sample for family in families for sample in family.samples]
    report = {
        "families": len(families),
        "samples": len(samples),
        "units": {family.name: family.unit for family in families if family.unit},
        "undocumented": [family.name for family in families if not family.documentation],
        "exemplars": [
            {
                "name": sample.name,
                "network": sample.labels["network"],
                "le": float(sample.labels["le"]),
                "tx_id": sample.exemplar.labels["tx_id"],
                "value": float(sample.exemplar.value),
                "timestamp": float(sample.exemplar.timestamp),
            }
            for sample in samples
            if sample.exemplar
        ],
    }
    # JSON has no infinity; the last bucket's bound is written as the format writes it.
    for exemplar in report["exemplars"]:
        if exemplar["le"] == float("inf"):
            exemplar["le"] = "+Inf"
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
