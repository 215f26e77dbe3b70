"""Reads dashboard files with the types that Grafana publishes, and writes them back.

What is lost or changed on the way, Grafana does not know: a misspelt option, a wrong level, a value
outside an enumeration. Prints one line a mistake, and exits 1 if there is any. Checks no query.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard, prometheus

# The published type of an annotation ends where Prometheus begins: its query is checked as a query
# of Prometheus, and these are read by Grafana's Prometheus plug-in itself.
OF_PROMETHEUS_ANNOTATIONS = ["titleFormat", "textFormat", "tagKeys", "useValueForTime"]


def main(files):
    register_default_plugins()
    mistakes = [f"{file}: {mistake}" for file in files for mistake in check(json.load(open(file, encoding="utf-8")))]
    for mistake in mistakes:
        print(mistake)
    sys.exit(1 if mistakes else 0)


def check(given):
    for annotation in given["annotations"]["list"]:
        target = annotation.pop("target")
        yield from round_trip(prometheus.Dataquery, target, f"annotations.{annotation['name']}.target")
        for key in OF_PROMETHEUS_ANNOTATIONS:
            annotation.pop(key, None)
    yield from round_trip(dashboard.Dashboard, given, "")


def round_trip(model, given, path):
    decoded = model.from_json(given)
    yield from lost(given, json.loads(JSONEncoder().encode(decoded)), path)
    yield from misfits(decoded, path or "dashboard")


def lost(given, kept, path):
    """What the types dropped or changed; defaults that they add are no mistake."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from lost(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: unknown to Grafana"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (value, other) in enumerate(zip(given, kept)):
            yield from lost(value, other, f"{path}[{index}]")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


def misfits(value, path):
    """Attributes whose value is not of the published type, enumerations included."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from misfits(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from misfits(item, f"{path}.{key}")
    elif type(value).__module__.startswith("grafana_foundation_sdk.models") and not isinstance(value, enum.Enum):
        hints = typing.get_type_hints(type(value))
        for name, item in vars(value).items():
            if name in hints and not fits(item, hints[name]):
                yield f"{path}.{name}: {item!r} is not {hints[name]}"
            yield from misfits(item, f"{path}.{name}")


def fits(value, hint):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if isinstance(value, dict) and hasattr(hint, "from_json"):
        return not list(round_trip(hint, value, ""))  # some lists of models are not decoded by themselves
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return isinstance(value, hint) or value in [member.value for member in hint]
    return isinstance(value, origin or hint)


if __name__ == "__main__":
    main(sys.argv[1:])
