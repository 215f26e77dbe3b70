"""Reads a CycloneDX 1.5 document from standard input and fails, saying why, where it is not valid."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main():
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())
    if error is not None:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
