"""Whether a JSON value or a parameter's text is what a schema of a discovery document says. Knows no methods."""

import re

# What `format` means, in JSON texts (the documents carry 64-bit numbers as strings).
_DATE_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})"
FORMATS = {
    "int64": r"-?\d{1,19}",
    "uint64": r"\d{1,20}",
    "byte": r"([A-Za-z0-9+/]{4}|[A-Za-z0-9_-]{4})*([A-Za-z0-9+/_-]{2}(==)?|[A-Za-z0-9+/_-]{3}=?)?",
    "date": r"\d{4}-\d{2}-\d{2}",
    "date-time": _DATE_TIME,
    "google-datetime": _DATE_TIME,
    "google-duration": r"-?\d+(\.\d{1,9})?s",
    "google-fieldmask": r"[A-Za-z0-9_.*]+(,[A-Za-z0-9_.*]+)*",
}
BOUNDS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}


class Rules:
    """How to read a document: `of(reference)` gives a schema; `int_enums`: enums travel as numbers
    (`$alt=json;enum-encoding=int`); `asked`: it is a request, in which the server's own fields have no place; `nulls`:
    null clears a field (PATCH)."""

    def __init__(self, of, int_enums=False, asked=False, nulls=False):
        self.of, self.int_enums, self.asked, self.nulls = of, int_enums, asked, nulls


def check(rules, schema, value, where):
    """All that is wrong with a JSON value, each naming its place."""
    if "$ref" in schema:
        yield from check(rules, rules.of(schema["$ref"]), value, where)
        return
    kind = schema.get("type", "any")
    if kind == "any":
        return
    if value is None:
        if not rules.nulls:
            yield f"{where}: null instead of {kind}"
        return
    if kind == "object":
        yield from _object(rules, schema, value, where)
    elif kind == "array":
        if not isinstance(value, list):
            yield f"{where}: {_named(value)} instead of an array"
            return
        for at, item in enumerate(value):
            yield from check(rules, schema["items"], item, f"{where}[{at}]")
    else:
        yield from _scalar(rules, schema, kind, value, where)


def _object(rules, schema, value, where):
    if not isinstance(value, dict):
        yield f"{where}: {_named(value)} instead of an object"
        return
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        inner = properties.get(name, others)
        if inner is None:
            yield f"{where}.{name}: unknown field"
        elif rules.asked and inner.get("readOnly"):
            yield f"{where}.{name}: only the server says this"
        else:
            yield from check(rules, inner, item, f"{where}.{name}")


def _scalar(rules, schema, kind, value, where):
    if "enum" in schema and rules.int_enums and isinstance(value, int) and not isinstance(value, bool):
        # The documents do not say the numbers of enums.
        return
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool) or value in ("NaN", "Infinity", "-Infinity"),
    }
    if kind not in fits:
        raise ValueError(f"{where}: the document has a type that this checker does not know: {kind}")
    if not fits[kind]:
        yield f"{where}: {_named(value)} instead of {kind}"
    elif wrong := text_fault(schema, str(value) if kind == "integer" else value):
        yield f"{where}: {wrong}"


def text_fault(schema, text):
    """What is wrong with a text under `enum`, `format` and `pattern`, or None."""
    if "enum" in schema and text not in schema["enum"]:
        return f"{_named(text)} is none of {', '.join(schema['enum'][:12])}"
    form = schema.get("format")
    if isinstance(text, str):
        if form in FORMATS and not re.fullmatch(FORMATS[form], text):
            return f"{_named(text)} is no {form}"
        if form in BOUNDS and not BOUNDS[form][0] <= int(text) <= BOUNDS[form][1]:
            return f"{_named(text)} is out of the bounds of {form}"
        if "pattern" in schema and not re.search(schema["pattern"], text):
            return f"{_named(text)} does not match {schema['pattern']}"
    return None


def parameter_fault(schema, text):
    """What is wrong with a parameter's text, or None."""
    kind = schema.get("type", "string")
    if kind == "boolean" and text not in ("true", "false"):
        return f"{_named(text)} is no boolean"
    if kind == "integer" and not re.fullmatch(r"-?\d+", text):
        return f"{_named(text)} is no integer"
    for bound, wrong in (("minimum", lambda n, b: n < b), ("maximum", lambda n, b: n > b)):
        if bound in schema and kind == "integer" and wrong(int(text), int(schema[bound])):
            return f"{_named(text)} is beyond the {bound} {schema[bound]}"
    return text_fault(schema, text)


def _named(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
