"""The checker must find what is wrong: every kind of violation is planted here and has to be told, and sound exchanges
have to pass. usage: python -m unittest discover -s tests/contract"""

import unittest

from check import Checker
from documents import Documents

DOCUMENTS = Documents.installed()
PRODUCT = {"user-agent": "strongroom/1.0"}
TABLE = "/bigquery/v2/projects/p/datasets/d/tables"


def exchange(method, target, body=None, answer=None, status=200, headers=PRODUCT, **more):
    """One line of traffic, with nothing wrong unless it is asked for."""
    line = {"method": method, "target": target, "headers": headers, "status": status, "answer_type": None} | more
    if body is not None:
        line |= {"body": body, "body_bytes": 2}
    if answer is not None:
        line |= {"answer": answer, "answer_bytes": 2, "answer_type": "application/json"}
    return line


def check(*lines):
    checker = Checker(DOCUMENTS)
    for line in lines:
        checker.exchange("test", line)
    return checker


class Planted(unittest.TestCase):
    def told(self, line, text):
        texts = [f"{side}: {said}" for _, side, said in check(line).violations]
        self.assertTrue(any(text in said for said in texts), f"nothing says {text!r}: {texts}")

    def sound(self, line):
        checker = check(line)
        self.assertEqual(checker.violations, [])
        return checker

    def test_sound_exchanges_pass_and_are_counted(self):
        checker = self.sound(exchange("POST", TABLE, {"tableReference": {"tableId": "t"}}, {"id": "p:d.t", "numRows": "0"}))
        self.assertEqual((checker.requests.total(), checker.answers.total()), (1, 1))
        self.sound(exchange("GET", TABLE + "/t?prettyPrint=false&view=FULL", answer={"kind": "bigquery#table"}))
        self.sound(exchange("DELETE", TABLE + "/t", status=204))
        self.sound(exchange("POST", "/v1/projects/p/locations/l/jobs/j:pause", {}, {"name": "j", "state": "PAUSED"}))
        self.sound(exchange("POST", "/upload/storage/v1/b/x/o?uploadType=resumable&name=a", {"name": "a"}))
        self.sound(exchange("PUT", "/upload/storage/v1/b/x/o?uploadType=resumable&upload_id=u", status=308))

    def test_paths(self):
        self.told(exchange("GET", "/bigquery/v2/projects/p/tables/t", answer={}, status=404), "request: GET /bigquery/v2/projects/p/tables/t: no document")
        self.told(exchange("GET", "/bigquery/v2/projects/p/tables/t", answer={}), "answer: GET /bigquery/v2/projects/p/tables/t: answered 200")
        self.told(exchange("POST", "/v1/projects/p/locations/l/jobs/j:halt", {}, {}), "no document describes it")
        self.told(exchange("GET", "/storage/v1/b/x/o/a/b", answer={}), "no document describes it")

    def test_what_has_no_document_is_named(self):
        grpc = exchange("POST", "/google.pubsub.v1.Publisher/Publish", headers={"content-type": "application/grpc"})
        for line, name in [(grpc, "gRPC"), (exchange("GET", "/bucket/object"), "XML API"), (exchange("POST", "/token"), "metadata server")]:
            self.assertIn(name, next(iter(self.sound(line).undescribed)))

    def test_query_parameters(self):
        self.told(exchange("GET", TABLE + "?limit=5", answer={}), "unknown query parameter limit")
        self.told(exchange("GET", TABLE + "?maxResults=many", answer={}), "no integer")
        self.told(exchange("GET", TABLE + "/t?view=EVERYTHING", answer={}), "none of TABLE_METADATA_VIEW_UNSPECIFIED")
        self.told(exchange("GET", "/storage/v1/b/x/o?versions=True", answer={}), "no boolean")
        self.told(exchange("GET", "/storage/v1/b/x/o?prefix=a&prefix=b", answer={}), "sent 2 times")
        self.told(exchange("GET", "/storage/v1/b", answer={}), "query parameter project is missing")
        self.told(exchange("GET", "/storage/v1/b/x/o/a?generation=last", answer={}), "no int64")
        self.told(exchange("GET", TABLE + "?maxResults=", answer={}), "no integer")

    def test_bodies(self):
        def insert(body):
            return exchange("POST", TABLE, body, {})

        self.told(insert({"tableRef": {}}), "body.tableRef: unknown field")
        self.told(insert({"labels": {"a": 1}}), "body.labels.a: 1 instead of string")
        self.told(insert({"schema": {"fields": {}}}), "instead of an array")
        self.told(insert({"schema": {"fields": [{"name": "a", "types": "STRING"}]}}), "body.schema.fields[0].types: unknown field")
        self.told(insert({"requirePartitionFilter": "true"}), "instead of boolean")
        self.told(insert({"defaultRoundingMode": "UP"}), "none of ROUNDING_MODE_UNSPECIFIED")
        self.told(insert({"expirationTime": 17}), "17 instead of string")
        self.told(insert({"expirationTime": "soon"}), "no int64")
        self.told(insert({"description": None}), "null instead of string")
        self.told(insert({"numRows": "5"}), "only the server says this")
        self.told(exchange("GET", TABLE + "/t", {}, {}), "though none is described")
        self.told(exchange("POST", TABLE, answer={}, body_bytes=9), "no JSON")
        self.sound(exchange("PATCH", TABLE + "/t", {"description": None}, {}))
        self.told(exchange("POST", "/v1/projects/p/secrets/s:addVersion", {"payload": {"data": "not base64!"}}, {}), "no byte")
        self.told(exchange("POST", "/upload/storage/v1/b/x/o?uploadType=multipart", {"nam": "a"}, {}), "body.nam: unknown field")

    def test_answers(self):
        self.told(exchange("GET", TABLE + "/t", answer={"rows": 1}), "answer.rows: unknown field")
        self.told(exchange("GET", TABLE + "/t", answer={"numRows": 1}), "1 instead of string")
        self.told(exchange("GET", TABLE + "/t", answer={"description": None}), "null instead of string")
        self.told(exchange("GET", TABLE + "/t"), "no JSON object")
        self.told(exchange("GET", TABLE + "/t", answer={}, status=201), "status 201 instead of 200")
        self.told(exchange("DELETE", TABLE + "/t", answer={}), "though no answer is described")
        self.told(exchange("GET", "/v1/projects/p/locations/l/jobs/j", answer={"state": "ASLEEP"}), "none of STATE_UNSPECIFIED")
        self.told(exchange("GET", "/v1/projects/p/locations/l/jobs/j", answer={"userUpdateTime": "today"}), "no google-datetime")
        # Numbers for enums only where they were asked for.
        self.told(exchange("GET", "/v1/projects/p/locations/l/jobs/j", answer={"state": 1}), "1 instead of string")
        self.sound(exchange("GET", "/v1/projects/p/locations/l/jobs/j?$alt=json;enum-encoding=int", answer={"state": 1}))

    def test_errors(self):
        def refused(**error):
            return exchange("GET", TABLE + "/t", answer={"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"} | error}, status=404)

        self.sound(refused())
        self.told(refused(code=400), "code 400")
        self.told(refused(message=""), "message ''")
        self.told(refused(status="MISSING"), "none of CANCELLED")
        self.told(refused(errors=[{"cause": "x"}]), "unknown field")
        self.told(exchange("GET", TABLE + "/t", answer={"message": "gone"}, status=404), "without an error envelope")

    def test_only_the_product_is_held_to_its_requests(self):
        outsider = exchange("GET", TABLE + "?limit=5", answer={}, headers={"user-agent": "python-requests"})
        checker = self.sound(outsider)
        self.assertEqual((checker.requests.total(), checker.answers.total()), (0, 1))
        self.told(outsider | {"headers": {"x-goog-api-client": "gl-rust/1.95.0 gax/1"}}, "unknown query parameter")


if __name__ == "__main__":
    unittest.main()
