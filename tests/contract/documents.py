"""Google's published discovery documents as a table of methods: which request is described, and how.

Knows nothing of the traffic. The documents come with the package google-api-python-client and are read as they are."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

# The services of the estate, by the names of their documents.
SERVICES = ["bigquery.v2", "storage.v1", "sheets.v4", "cloudscheduler.v1", "secretmanager.v1", "cloudkms.v1", "run.v2", "pubsub.v1"]


class Method:
    """One method of one document."""

    def __init__(self, document, resource):
        self.document = document
        self.id = resource["id"]
        self.verb = resource["httpMethod"]
        self.request = resource.get("request")
        self.response = resource.get("response")
        self.parameters = resource.get("parameters", {})
        self.downloads = resource.get("supportsMediaDownload", False)
        base = document["servicePath"]
        self.paths = [(False, *_pattern("/" + base + resource["path"], self.parameters))]
        for protocol in resource.get("mediaUpload", {}).get("protocols", {}).values():
            self.paths.append((True, *_pattern(protocol["path"], self.parameters)))
        if self.downloads:
            self.paths.append((False, *_pattern("/download/" + base + resource["path"], self.parameters)))

    def match(self, path):
        """(how literal the match is, whether it uploads, the path's parameters), or None."""
        for uploads, pattern, literal, names in self.paths:
            found = pattern.fullmatch(path)
            if found:
                values = {name: unquote(found.group(at + 1)) for at, name in enumerate(names)}
                return literal, uploads, values
        return None

    def schema(self, reference):
        return self.document["schemas"][reference]


class Documents:
    """All methods of all documents."""

    def __init__(self, documents):
        self.methods = [Method(document, method) for document in documents for method in _methods(document)]
        self.revisions = {document["id"].replace(":", " "): document["revision"] for document in documents}
        self._by_verb = {}
        for method in self.methods:
            self._by_verb.setdefault(method.verb, []).append(method)

    @classmethod
    def installed(cls):
        """Those that google-api-python-client brings."""
        import googleapiclient

        folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
        return cls([json.loads((folder / f"{name}.json").read_text()) for name in SERVICES])

    def find(self, verb, path):
        """(method, whether it uploads, the path's parameters), the most literal match; or None."""
        found = [(match, method) for method in self._by_verb.get(verb, []) if (match := method.match(path))]
        if not found:
            return None
        (_, uploads, values), method = max(found, key=lambda one: one[0][0])
        return method, uploads, values


def _methods(resource):
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner)


def _pattern(template, parameters):
    """A path template as a regular expression over the path as sent, how many characters of it are literal, and the
    names of its groups. `{+name}` may hold slashes, if its own pattern says so."""
    pattern, literal, names = "", 0, []
    for text, name in re.findall(r"([^{}]+)|\{([^{}]+)\}", template):
        if text:
            pattern += re.escape(text)
            literal += len(text)
        elif name.startswith("+"):
            names.append(name[1:])
            own = parameters.get(name[1:], {}).get("pattern", "^.+$").removeprefix("^").removesuffix("$")
            pattern += "(" + re.sub(r"\((?!\?)", "(?:", own) + ")"
            literal += sum(len(piece) for piece in re.findall(r"[a-z/]{2,}", own))
        else:
            names.append(name)
            pattern += "([^/]+)"
    return re.compile(pattern), literal, names
