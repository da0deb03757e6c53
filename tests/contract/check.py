"""Holds the traffic of the end-to-end tests against Google's published discovery documents: every request that the
product sent and every answer that the sandbox gave. What no document describes is counted by name.

usage: check.py DIRECTORY... [--whole]
`--whole`: the traffic is that of all tests, so that every exception of exceptions.toml must have been needed."""

import argparse
import collections
import json
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import values
from documents import Documents

HERE = Path(__file__).parent
# Parameters that Google documents for all its APIs, outside the discovery documents: "System parameters".
SYSTEM_PARAMETERS = {"$alt": {"enum": ["json", "json;enum-encoding=int"]}, "$fields": {}, "$prettyPrint": {"type": "boolean"}, "$userProject": {}}
# Parameters of an upload's own protocol, which the documents name by their paths only.
UPLOAD_PARAMETERS = {"uploadType": {"enum": ["media", "multipart", "resumable"]}, "upload_id": {}}
# The error envelope: google.rpc.Status in JSON, with the `errors` of the older APIs.
CODES = (
    "CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED UNAUTHENTICATED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS"
).split()
_TEXT = {"type": "string"}
ENVELOPE = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "message": _TEXT,
                "status": {"type": "string", "enum": CODES},
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: _TEXT for name in ("message", "domain", "reason", "location", "locationType", "extendedHelp", "debugInfo")},
                    },
                },
                "details": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "any"}}},
            },
        }
    },
}


class Checker:
    """Counts what it checked; `violations` are (test, side, text)."""

    def __init__(self, documents):
        self.documents = documents
        self.requests, self.answers, self.errors = (collections.Counter() for _ in range(3))
        self.undescribed = collections.Counter()
        self.violations = []

    def exchange(self, test, line):
        """Checks one line of traffic."""
        path, _, query = line["target"].partition("?")
        product = is_product(line["headers"])
        found = self.documents.find(line["method"], described_path(path))
        label = f"{line['method']} {path}"
        if found is None:
            kind = undescribed(line["method"], path, line["headers"])
            if product and kind is None:
                self._blame(test, "request", f"{label}: no document describes it")
            self._undescribed_answer(test, label, line, kind)
            return
        method, uploads, names = found
        label = f"{method.id} ({label})"
        parameters = parse_qsl(query, keep_blank_values=True)
        asked = dict(parameters)
        if product:
            self.requests[method.document["name"]] += 1
            for wrong in self._request(method, uploads, names, parameters, line):
                self._blame(test, "request", f"{label}: {wrong}")
        if asked.get("alt") == "media" or path.startswith("/download/"):
            self.undescribed["data of objects"] += 1
            return
        self.answers[method.document["name"]] += 1
        for wrong in self._answer(method, uploads, asked, line):
            self._blame(test, "answer", f"{label}: {wrong}")

    def _blame(self, test, side, text):
        self.violations.append((test, side, text))

    def _undescribed_answer(self, test, label, line, kind):
        if kind is not None:
            self.undescribed[kind] += 1
        elif line["status"] < 400:
            self._blame(test, "answer", f"{label}: answered {line['status']}, though no document describes it")
        else:
            self.answers["refusals of what does not exist"] += 1
            for wrong in envelope(line):
                self._blame(test, "answer", f"{label}: {wrong}")

    def _request(self, method, uploads, names, parameters, line):
        known = method.document["parameters"] | SYSTEM_PARAMETERS | {n: p for n, p in method.parameters.items() if p["location"] == "query"}
        if uploads:
            known = known | UPLOAD_PARAMETERS
        asked = dict(parameters)
        int_enums = "enum-encoding=int" in asked.get("$alt", "")
        for name, text in names.items():
            if wrong := values.parameter_fault(method.parameters.get(name, {}), text):
                yield f"path parameter {name}: {wrong}"
        for name, text in parameters:
            if name not in known:
                yield f"unknown query parameter {name}"
            elif text == "" and int_enums:
                self.undescribed["empty query parameters of Google's own Rust crates"] += 1
            elif int_enums and "enum" in known[name] and text.isdigit():
                self.undescribed["enums as numbers in queries of Google's own Rust crates"] += 1
            elif wrong := values.parameter_fault(known[name], text):
                yield f"query parameter {name}: {wrong}"
        for name, count in collections.Counter(name for name, _ in parameters).items():
            if count > 1 and not known.get(name, {}).get("repeated"):
                yield f"query parameter {name} is sent {count} times"
        for name, schema in method.parameters.items():
            if schema.get("required") and schema["location"] == "query" and name not in asked:
                yield f"query parameter {name} is missing"
        yield from self._request_body(method, uploads, asked, line, int_enums)

    def _request_body(self, method, uploads, asked, line, int_enums):
        size, body = line.get("body_bytes", 0), line.get("body")
        if size == 0:
            return
        if uploads and (asked.get("uploadType") == "media" or "upload_id" in asked):
            self.undescribed["data of objects"] += 1
        elif method.request is None and body == {} and int_enums:
            self.undescribed["empty objects as bodies of Google's own Rust crates"] += 1
        elif method.request is None:
            yield f"a body of {size} bytes, though none is described"
        elif body is None:
            yield f"a body of {size} bytes that is no JSON"
        else:
            rules = values.Rules(method.schema, int_enums, asked=True, nulls=method.verb == "PATCH")
            yield from values.check(rules, method.request, body, "body")
            properties = method.schema(method.request["$ref"]).get("properties", {})
            for name, schema in properties.items():
                if method.id in schema.get("annotations", {}).get("required", []) and name not in body:
                    yield f"body.{name} is missing"

    def _answer(self, method, uploads, asked, line):
        status, answer, size = line["status"], line.get("answer"), line.get("answer_bytes", 0)
        if status >= 400:
            self.errors[status] += 1
            yield from envelope(line)
        elif status == 304:
            pass
        elif uploads and asked.get("uploadType") == "resumable" and (answer is None or "upload_id" not in asked):
            # The answers of the upload's protocol: a session begins (200), goes on (308).
            if status not in (200, 308) or answer is not None:
                yield f"status {status} with {size} bytes within a resumable upload"
        elif method.response is None:
            if status not in (200, 204) or size:
                yield f"status {status} with {size} bytes, though no answer is described"
        elif status != 200:
            yield f"status {status} instead of 200"
        elif not isinstance(answer, dict):
            yield f"no JSON object (content type {line.get('answer_type')}, {size} bytes)"
        else:
            int_enums = "enum-encoding=int" in asked.get("$alt", "") + asked.get("alt", "")
            yield from values.check(values.Rules(method.schema, int_enums), method.response, answer, "answer")


def envelope(line):
    """What is wrong with an error's body."""
    answer = line.get("answer")
    if line["method"] == "HEAD" or line.get("answer_type") is None:
        return
    if not isinstance(answer, dict) or "error" not in answer:
        yield f"status {line['status']} without an error envelope (content type {line['answer_type']})"
        return
    yield from values.check(values.Rules(None), ENVELOPE, answer, "answer")
    error = answer["error"]
    if error.get("code") != line["status"] or not error.get("message"):
        yield f"answer.error: code {error.get('code')}, message {error.get('message')!r} under status {line['status']}"


def is_product(headers):
    """Whether the product sent it: its own user agent, or the mark of Google's Rust crates, which nothing else here uses."""
    return headers.get("user-agent", "").startswith("strongroom") or "gl-rust/" in headers.get("x-goog-api-client", "")


def described_path(path):
    """BigQuery's methods are also served without their prefix, where a client's endpoint names the whole base."""
    first = path.split("/")[1] if path.startswith("/") else ""
    return "/bigquery/v2" + path if first == "projects" else path


def undescribed(verb, path, headers):
    """The name of what Google serves and documents elsewhere, in prose; None for what should have a document."""
    first = path.split("/")[1] if path.count("/") else path
    if headers.get("content-type", "").startswith("application/grpc"):
        return "gRPC (described by .proto files)"
    if first == "_services":
        return "services deployed on Cloud Run (their own protocols)"
    if first in ("computeMetadata", "token", ""):
        return "metadata server and tokens"
    if first == "batch":
        return "envelopes of batches (each call in them is checked by itself)"
    if first in ("$discovery", "discovery"):
        return "discovery documents"
    if first == "_services":
        return "what deployed services answer"
    if first.startswith("google."):
        return "gRPC"
    if first in ("upload", "resumable") and verb in ("PUT", "DELETE"):
        return "pieces of resumable uploads"
    if first not in ("bigquery", "storage", "upload", "resumable", "download", "projects", "v1", "v2", "v4"):
        return "Cloud Storage's XML API"
    return None


def exceptions():
    return tomllib.loads((HERE / "exceptions.toml").read_text()).get("exception", [])


def excused(exception, violation):
    test, _, text = violation
    return exception["test"] in test and exception["says"] in text


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", nargs="+", type=Path)
    arguments.add_argument("--whole", action="store_true")
    arguments = arguments.parse_args()
    checker = Checker(Documents.installed())
    files = sorted(file for directory in arguments.directory for file in directory.glob("*.jsonl"))
    if not files:
        sys.exit("contract: there is no traffic to check")
    for file in files:
        with file.open() as lines:
            for line in lines:
                # A line cut short by a kill is no exchange.
                if line.endswith("\n"):
                    checker.exchange(file.stem, json.loads(line))
    sys.exit(report(checker, arguments.whole))


def report(checker, whole):
    """Prints what was checked and what is wrong; gives the exit code."""
    excuses = exceptions()
    needed = [[one for one in checker.violations if excused(exception, one)] for exception in excuses]
    forgiven = {one for ones in needed for one in ones}
    left = collections.Counter((side, text, test) for test, side, text in checker.violations if (test, side, text) not in forgiven)
    for (side, text, test), count in left.most_common(400):
        print(f"VIOLATION {side} {text}{f' ({count} times)' if count > 1 else ''} [{test}]")
    idle = [one for one, of in zip(excuses, needed) if whole and not of]
    for one in idle:
        print(f"VIOLATION exception for {one['test']} is not needed: {one['says']}")
    for name, counter in (("requests of the product", checker.requests), ("answers of the sandbox", checker.answers)):
        print(f"contract: {name}: {', '.join(f'{service} {count}' for service, count in sorted(counter.items()))}")
    print(f"contract: error answers: {', '.join(f'{status}: {count}' for status, count in sorted(checker.errors.items()))}")
    for name, count in sorted(checker.undescribed.items()):
        print(f"contract: without a document: {name} ({count})")
    total = sum(left.values()) + len(idle)
    print(
        f"contract: {sum(checker.requests.values())} requests, {sum(checker.answers.values())} answers, "
        f"{total} violations, {len(forgiven)} planted by tests"
    )
    return 1 if total or not checker.requests else 0


if __name__ == "__main__":
    main()
