"""Asks a broker everything that the SQS API has, through an unmodified boto3: sqs_boto3.py PORT.

Digests are computed here once more, independently of the broker."""

import base64
import hashlib
import json
import struct
import sys
import threading
import time

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

PORT = sys.argv[1]
ENDPOINT = f"http://127.0.0.1:{PORT}"
# One try each: what is refused is to be seen.
sqs = boto3.client(
    "sqs",
    endpoint_url=ENDPOINT,
    region_name="eu-west-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    config=Config(retries={"total_max_attempts": 1}),
)
checked = 0


def check(what, truth):
    global checked
    checked += 1
    assert truth, what


def refused(code, error_class, call, status=400, **arguments):
    """The call fails with this code, and as this class of exception."""
    global checked
    checked += 1
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response
        assert got["Error"]["Code"] == code, (code, got["Error"])
        assert got["Error"]["Message"], got
        assert got["ResponseMetadata"]["HTTPStatusCode"] == status, (status, got)
        if error_class is not None:
            expected = getattr(sqs.exceptions, error_class)
            assert type(error) is expected, (error_class, type(error))
        return got
    raise AssertionError(f"{code} was expected of {call} with {arguments}")


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def attributes_md5(attributes):
    digest = hashlib.md5()

    def part(data):
        digest.update(struct.pack(">I", len(data)) + data)

    for name in sorted(attributes):
        attribute = attributes[name]
        part(name.encode())
        part(attribute["DataType"].encode())
        if attribute["DataType"].startswith("Binary"):
            digest.update(b"\x02")
            part(attribute["BinaryValue"])
        else:
            digest.update(b"\x01")
            part(attribute["StringValue"].encode())
    return digest.hexdigest()


def queue(name, attributes=None, **more):
    return sqs.create_queue(QueueName=name, Attributes=attributes or {}, **more)["QueueUrl"]


def receive(url, **more):
    return sqs.receive_message(QueueUrl=url, **more).get("Messages", [])


def arn(url):
    names = ["QueueArn"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]["QueueArn"]


def counts(url):
    names = ["", "NotVisible", "Delayed"]
    names = [f"ApproximateNumberOfMessages{name}" for name in names]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(told[name]) for name in names)


def until(what, look):
    """Looks until it is so."""
    for _ in range(300):
        if look():
            return
        time.sleep(0.1)
    raise AssertionError(what)


NONE = f"{ENDPOINT}/000000000000/none"
NONEXISTENT = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
OLD = "AWS.SimpleQueueService."


def queues():
    url = queue("plain", {"VisibilityTimeout": "45"}, tags={"team": "a"})
    check("the URL", url == f"{ENDPOINT}/000000000000/plain")
    check("the same again", queue("plain", {"VisibilityTimeout": "45"}) == url)
    check("no attributes are the same", queue("plain") == url)
    refused("QueueAlreadyExists", "QueueNameExists", queue, name="plain",
            attributes={"VisibilityTimeout": "46"})
    refused("InvalidParameterValue", None, queue, name="not a name")
    refused("InvalidParameterValue", None, queue, name="a.fifo")
    refused("InvalidAttributeName", "InvalidAttributeName", queue, name="x",
            attributes={"Colour": "red"})
    refused("InvalidAttributeValue", "InvalidAttributeValue", queue, name="x",
            attributes={"VisibilityTimeout": "43201"})

    check("found", sqs.get_queue_url(QueueName="plain")["QueueUrl"] == url)
    refused(*NONEXISTENT, sqs.get_queue_url, QueueName="none")
    refused(*NONEXISTENT, sqs.get_queue_url, QueueName="plain",
            QueueOwnerAWSAccountId="111111111111")

    for name in ["page-1", "page-2", "page-3"]:
        queue(name)
    listed = sqs.list_queues(QueueNamePrefix="page-")
    check("listed", [u[-1] for u in listed["QueueUrls"]] == ["1", "2", "3"])
    check("no token unasked", "NextToken" not in listed)
    first = sqs.list_queues(QueueNamePrefix="page-", MaxResults=2)
    check("a page", len(first["QueueUrls"]) == 2)
    rest = sqs.list_queues(QueueNamePrefix="page-", MaxResults=2, NextToken=first["NextToken"])
    check("the rest", len(rest["QueueUrls"]) == 1 and "NextToken" not in rest)
    paginator = sqs.get_paginator("list_queues").paginate(
        QueueNamePrefix="page-", PaginationConfig={"PageSize": 1})
    check("pages", len([u for page in paginator for u in page["QueueUrls"]]) == 3)
    refused("InvalidParameterValue", None, sqs.list_queues, MaxResults=1001)

    nothing = sqs.get_queue_attributes(QueueUrl=url)
    check("no attributes unasked", "Attributes" not in nothing)
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    check("the ARN", told["QueueArn"] == "arn:aws:sqs:eu-west-1:000000000000:plain")
    check("as created", told["VisibilityTimeout"] == "45")
    check("the defaults", told["MessageRetentionPeriod"] == "345600" and told["DelaySeconds"] == "0"
          and told["MaximumMessageSize"] == "1048576")
    check("times", abs(int(told["CreatedTimestamp"]) - time.time()) < 60)
    check("counts", told["ApproximateNumberOfMessages"] == "0")
    refused("InvalidAttributeName", "InvalidAttributeName", sqs.get_queue_attributes, QueueUrl=url,
            AttributeNames=["Colour"])
    refused(*NONEXISTENT, sqs.get_queue_attributes, QueueUrl=NONE, AttributeNames=["All"])

    changed = {"DelaySeconds": "5", "ReceiveMessageWaitTimeSeconds": "2", "MaxPriority": "3",
               "MaxMessages": "100", "Policy": json.dumps({"Version": "2012-10-17"})}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    check("changed", {name: told[name] for name in changed} == changed)
    check("kept", told["VisibilityTimeout"] == "45")
    refused("InvalidAttributeValue", "InvalidAttributeValue", sqs.set_queue_attributes,
            QueueUrl=url, Attributes={"DelaySeconds": "901"})
    refused("InvalidAttributeName", "InvalidAttributeName", sqs.set_queue_attributes,
            QueueUrl=url, Attributes={"QueueArn": "x"})
    refused(*NONEXISTENT, sqs.set_queue_attributes, QueueUrl=NONE, Attributes={"DelaySeconds": "1"})

    check("tagged", sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "a"})
    sqs.tag_queue(QueueUrl=url, Tags={"team": "b", "cost": "7"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["cost", "none"])
    check("tagged", sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "b"})
    refused("InvalidParameterValue", None, sqs.tag_queue, QueueUrl=url,
            Tags={f"k{n}": "v" for n in range(51)})
    refused(*NONEXISTENT, sqs.tag_queue, QueueUrl=NONE, Tags={"a": "b"})
    refused(*NONEXISTENT, sqs.untag_queue, QueueUrl=NONE, TagKeys=["a"])
    refused(*NONEXISTENT, sqs.list_queue_tags, QueueUrl=NONE)

    grant = {"QueueUrl": url, "Label": "send", "AWSAccountIds": ["123456789012"],
             "Actions": ["SendMessage"]}
    sqs.add_permission(**grant)
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    check("a statement", json.loads(policy)["Statement"][0]["Sid"] == "send")
    refused("InvalidParameterValue", None, sqs.add_permission, **grant)
    refused("OverLimit", "OverLimit", sqs.add_permission, status=403,
            **{**grant, "Label": "many", "Actions": ["*"] * 8})
    sqs.remove_permission(QueueUrl=url, Label="send")
    refused("InvalidParameterValue", None, sqs.remove_permission, QueueUrl=url, Label="send")
    refused(*NONEXISTENT, sqs.add_permission, **{**grant, "QueueUrl": NONE})
    refused(*NONEXISTENT, sqs.remove_permission, QueueUrl=NONE, Label="send")

    refused("InvalidAddress", "InvalidAddress", sqs.purge_queue, QueueUrl=f"{ENDPOINT}/")
    refused(*NONEXISTENT, sqs.purge_queue, QueueUrl=NONE)
    sqs.delete_queue(QueueUrl=url)
    refused(*NONEXISTENT, sqs.delete_queue, QueueUrl=url)
    check("made anew", queue("plain") == url)


def messages():
    url = queue("messages")
    attributes = {
        "attribName1": {"DataType": "String", "StringValue": "attribValue 1"},
        "customNumberTypeAttrib": {"DataType": "Number.float",
                                   "StringValue": "4563442423554324324264524243.32543234"},
        "binaryAttribute": {"DataType": "Binary", "BinaryValue": b"Hello binary world!"},
    }
    trace = {"DataType": "String",
             "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}
    sent = sqs.send_message(QueueUrl=url, MessageBody="This is a test message",
                            MessageAttributes=attributes,
                            MessageSystemAttributes={"AWSTraceHeader": trace})
    check("the digest of the body", sent["MD5OfMessageBody"] == "fafb00f5732ab283681e124bf8747ed1")
    check("that of the attributes",
          sent["MD5OfMessageAttributes"] == "c932db14a896c663f83c260297d594ff"
          == attributes_md5(attributes))
    check("that of the system's",
          sent["MD5OfMessageSystemAttributes"] == attributes_md5({"AWSTraceHeader": trace}))
    check("no sequence number", "SequenceNumber" not in sent)
    [got] = receive(url, MessageAttributeNames=["All"], AttributeNames=["All"])
    check("the message", got["MessageId"] == sent["MessageId"]
          and got["Body"] == "This is a test message" and got["MD5OfBody"] == sent["MD5OfMessageBody"])
    check("its attributes", got["MessageAttributes"] == attributes
          and got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"])
    system = got["Attributes"]
    check("its system's", system["ApproximateReceiveCount"] == "1"
          and system["AWSTraceHeader"] == trace["StringValue"]
          and abs(int(system["SentTimestamp"]) / 1000 - time.time()) < 60
          and abs(int(system["ApproximateFirstReceiveTimestamp"]) / 1000 - time.time()) < 60
          and "SenderId" in system)
    check("in flight", counts(url) == (0, 1, 0))
    handle = got["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    [again] = receive(url, MessageAttributeNames=["attrib*", "custom.*", "customNumber.*"],
                      MessageSystemAttributeNames=["ApproximateReceiveCount"])
    check("attributes by prefix", list(again["MessageAttributes"]) == ["customNumberTypeAttrib"]
          and again["MD5OfMessageAttributes"] == attributes_md5(again["MessageAttributes"]))
    check("counted", again["Attributes"] == {"ApproximateReceiveCount": "2"})
    check("a new handle", again["ReceiptHandle"] != handle)
    refused(OLD + "MessageNotInflight", "MessageNotInflight", sqs.change_message_visibility,
            QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=9)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    check("an old handle deletes nothing that is held", counts(url) == (0, 1, 0))
    handle = again["ReceiptHandle"]
    refused("InvalidParameterValue", None, sqs.change_message_visibility, QueueUrl=url,
            ReceiptHandle=handle, VisibilityTimeout=43201)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=600)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    check("gone", counts(url) == (0, 0, 0))
    refused("InvalidParameterValue", None, sqs.change_message_visibility, QueueUrl=url,
            ReceiptHandle=handle, VisibilityTimeout=9)
    for call in [sqs.delete_message, sqs.change_message_visibility]:
        more = {"VisibilityTimeout": 1} if call == sqs.change_message_visibility else {}
        refused("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", call, QueueUrl=url,
                ReceiptHandle="bogus", **more)
        refused("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", call, QueueUrl=queue("plain"),
                ReceiptHandle=handle, **more)
        refused(*NONEXISTENT, call, QueueUrl=NONE, ReceiptHandle=handle, **more)

    answer = sqs.receive_message(QueueUrl=url)
    check("no member when there is nothing", "Messages" not in answer)
    refused("InvalidMessageContents", "InvalidMessageContents", sqs.send_message, QueueUrl=url,
            MessageBody="\x01")
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="x",
            DelaySeconds=901)
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="x" * 1048577)
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="x",
            MessageDeduplicationId="d")
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="x",
            MessageAttributes={"AWS.x": {"DataType": "String", "StringValue": "x"}})
    refused(*NONEXISTENT, sqs.send_message, QueueUrl=NONE, MessageBody="x")
    for name, value in [("MaxNumberOfMessages", 11), ("MaxNumberOfMessages", 0),
                        ("WaitTimeSeconds", 21), ("VisibilityTimeout", 43201)]:
        refused("InvalidParameterValue", None, sqs.receive_message, QueueUrl=url, **{name: value})
    refused("InvalidAttributeName", "InvalidAttributeName", sqs.receive_message, QueueUrl=url,
            AttributeNames=["Colour"])
    refused("InvalidParameterValue", None, sqs.receive_message, QueueUrl=url,
            ReceiveRequestAttemptId="a")
    refused(*NONEXISTENT, sqs.receive_message, QueueUrl=NONE)

    large = "ä" * 524288
    sqs.send_message(QueueUrl=url, MessageBody=large)
    [got] = receive(url)
    check("a MiB comes back", got["Body"] == large and got["MD5OfBody"] == md5(large))
    sqs.purge_queue(QueueUrl=url)
    check("what is in flight is purged too", counts(url) == (0, 0, 0))

    tenant = sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="t")
    sqs.send_message(QueueUrl=url, MessageBody="b", MessageGroupId="t")
    got = receive(url, MaxNumberOfMessages=10, AttributeNames=["MessageGroupId"])
    check("a group blocks nothing in a standard queue", len(got) == 2
          and got[0]["Attributes"] == {"MessageGroupId": "t"}
          and got[0]["MessageId"] == tenant["MessageId"])
    sqs.purge_queue(QueueUrl=url)


def waiting():
    url = queue("waiting")
    begun = time.monotonic()
    check("nothing", receive(url, WaitTimeSeconds=1) == [])
    check("after a second", 0.9 <= time.monotonic() - begun)
    late = threading.Timer(0.5, lambda: sqs.send_message(QueueUrl=url, MessageBody="late"))
    late.start()
    begun = time.monotonic()
    [got] = receive(url, WaitTimeSeconds=20)
    check("as soon as there is one", got["Body"] == "late" and time.monotonic() - begun < 15)
    late.join()
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])

    sqs.send_message(QueueUrl=url, MessageBody="delayed", DelaySeconds=2)
    check("delayed", counts(url) == (0, 0, 1) and receive(url) == [])
    [got] = receive(url, WaitTimeSeconds=20, VisibilityTimeout=1)
    check("then there", got["Body"] == "delayed")
    [again] = receive(url, WaitTimeSeconds=20, AttributeNames=["All"])
    check("and again when it was held too long", again["Attributes"]["ApproximateReceiveCount"] == "2")
    check("received first before", int(again["Attributes"]["ApproximateFirstReceiveTimestamp"])
          < time.time() * 1000 - 900)
    sqs.purge_queue(QueueUrl=url)
    delayed = queue("delayed", {"DelaySeconds": "60", "ReceiveMessageWaitTimeSeconds": "1"})
    sqs.send_message(QueueUrl=delayed, MessageBody="a")
    sqs.send_message(QueueUrl=delayed, MessageBody="b", DelaySeconds=0)
    [got] = receive(delayed, MaxNumberOfMessages=10)
    check("the queue's delay", got["Body"] == "b" and counts(delayed) == (0, 1, 1))


def batches():
    url = queue("batches")
    entry = {"Id": "good", "MessageBody": "a"}
    bad = {"Id": "bad", "MessageBody": "\x00"}
    sent = sqs.send_message_batch(QueueUrl=url, Entries=[entry, bad])
    check("good", [done["Id"] for done in sent["Successful"]] == ["good"]
          and sent["Successful"][0]["MD5OfMessageBody"] == md5("a"))
    [failed] = sent["Failed"]
    check("bad", failed["Id"] == "bad" and failed["SenderFault"] is True
          and failed["Code"] == "InvalidMessageContents")
    send = sqs.send_message_batch
    change, delete = sqs.change_message_visibility_batch, sqs.delete_message_batch
    for call, one in [(send, {"MessageBody": "a"}), (delete, {"ReceiptHandle": "h"}),
                      (change, {"ReceiptHandle": "h", "VisibilityTimeout": 1})]:
        def entries(*ids):
            return [{"Id": name, **one} for name in ids]
        refused(OLD + "EmptyBatchRequest", "EmptyBatchRequest", call, QueueUrl=url, Entries=[])
        refused(OLD + "TooManyEntriesInBatchRequest", "TooManyEntriesInBatchRequest", call,
                QueueUrl=url, Entries=entries(*"abcdefghijk"))
        refused(OLD + "BatchEntryIdsNotDistinct", "BatchEntryIdsNotDistinct", call, QueueUrl=url,
                Entries=entries("a", "a"))
        refused(OLD + "InvalidBatchEntryId", "InvalidBatchEntryId", call, QueueUrl=url,
                Entries=entries("a b"))
        refused(*NONEXISTENT, call, QueueUrl=NONE, Entries=entries("a"))
    refused(OLD + "BatchRequestTooLong", "BatchRequestTooLong", send, QueueUrl=url,
            Entries=[{"Id": name, "MessageBody": "x" * 600_000} for name in "ab"])
    check("nothing of that was stored", counts(url) == (1, 0, 0))
    sqs.purge_queue(QueueUrl=url)

    ten = [{"Id": f"m{n}", "MessageBody": f"body {n}"} for n in range(10)]
    check("ten", len(send(QueueUrl=url, Entries=ten)["Successful"]) == 10)
    got = receive(url, MaxNumberOfMessages=10)
    check("ten", sorted(m["Body"] for m in got) == sorted(m["MessageBody"] for m in ten))
    handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(got)]
    wrong = {"Id": "wrong", "ReceiptHandle": "bogus"}
    changed = change(QueueUrl=url, Entries=[{**handle, "VisibilityTimeout": 0} for handle in handles[:5]]
                     + [{**wrong, "VisibilityTimeout": 0}])
    check("changed", len(changed["Successful"]) == 5
          and changed["Failed"][0]["Code"] == "ReceiptHandleIsInvalid")
    check("visible", counts(url) == (5, 5, 0))
    deleted = delete(QueueUrl=url, Entries=handles[5:] + [wrong])
    check("deleted", len(deleted["Successful"]) == 5 and deleted["Failed"][0]["Id"] == "wrong")
    check("left", counts(url) == (5, 0, 0))


def fifo():
    url = queue("orders.fifo", {"FifoQueue": "true"})
    refused("InvalidParameterValue", None, queue, name="orders", attributes={"FifoQueue": "true"})
    refused("MissingParameter", None, sqs.send_message, QueueUrl=url, MessageBody="a",
            MessageDeduplicationId="d")
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="a",
            MessageGroupId="g")
    refused("InvalidParameterValue", None, sqs.send_message, QueueUrl=url, MessageBody="a",
            MessageGroupId="g", MessageDeduplicationId="d", DelaySeconds=5)

    def send(body, group, dedup):
        return sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group,
                                MessageDeduplicationId=dedup)
    first = send("a1", "a", "1")
    again = send("a1 again", "a", "1")
    check("a duplicate is the first", again["MessageId"] == first["MessageId"]
          and again["SequenceNumber"] == first["SequenceNumber"])
    second, third = send("a2", "a", "2"), send("b1", "b", "3")
    check("in order", int(first["SequenceNumber"]) < int(second["SequenceNumber"]))
    ask = {"MaxNumberOfMessages": 10, "AttributeNames": ["All"]}
    got = receive(url, ReceiveRequestAttemptId="try", **ask)
    check("one of each group", [m["Body"] for m in got] == ["a1", "b1"])
    check("its system's", got[0]["Attributes"]["MessageGroupId"] == "a"
          and got[0]["Attributes"]["MessageDeduplicationId"] == "1"
          and got[0]["Attributes"]["SequenceNumber"] == first["SequenceNumber"]
          and got[1]["MessageId"] == third["MessageId"])
    same = receive(url, ReceiveRequestAttemptId="try", **ask)
    check("the same attempt gets the same",
          [m["ReceiptHandle"] for m in same] == [m["ReceiptHandle"] for m in got])
    check("both groups are held", receive(url) == [])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"])
    [next_] = receive(url, ReceiveRequestAttemptId="try", VisibilityTimeout=1)
    check("then the next of the group", next_["Body"] == "a2")
    [late] = receive(url, WaitTimeSeconds=20)
    check("again", late["Body"] == "a2")
    refused("InvalidParameterValue", None, sqs.delete_message, QueueUrl=url,
            ReceiptHandle=next_["ReceiptHandle"])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=late["ReceiptHandle"])
    check("deduplicated after it is gone", send("a1", "a", "1")["MessageId"] == first["MessageId"])

    url = queue("content.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true",
                                 "DeduplicationScope": "messageGroup",
                                 "FifoThroughputLimit": "perMessageGroupId"})
    one = sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="a")
    two = sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="a",
                           MessageAttributes={"x": {"DataType": "String", "StringValue": "y"}})
    other = sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="b")
    check("the body counts, in its group", one["MessageId"] == two["MessageId"] != other["MessageId"])
    [got, _] = receive(url, MaxNumberOfMessages=10, AttributeNames=["MessageDeduplicationId"])
    check("the id", got["Attributes"]["MessageDeduplicationId"]
          == hashlib.sha256(b"same").hexdigest())
    refused("InvalidAttributeValue", "InvalidAttributeValue", sqs.set_queue_attributes, QueueUrl=url,
            Attributes={"DeduplicationScope": "queue"})
    refused("InvalidAttributeName", "InvalidAttributeName", sqs.set_queue_attributes,
            QueueUrl=queue("plain"), Attributes={"ContentBasedDeduplication": "true"})


def dead_letters():
    dead = queue("dead")

    def policy(target, count):
        return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": count})}
    url = queue("tried", policy(arn(dead), "2"))
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
    check("the policy", json.loads(told["RedrivePolicy"]) == {"deadLetterTargetArn": arn(dead),
                                                              "maxReceiveCount": 2})
    for wrong in [arn(dead) + "-none", arn(sqs.get_queue_url(QueueName="orders.fifo")["QueueUrl"])]:
        refused("InvalidAttributeValue", "InvalidAttributeValue", sqs.set_queue_attributes,
                QueueUrl=url, Attributes=policy(wrong, 2))
    check("sources", sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url])
    refused(*NONEXISTENT, sqs.list_dead_letter_source_queues, QueueUrl=NONE)
    refused(OLD + "UnsupportedOperation", "UnsupportedOperation", sqs.delete_queue, QueueUrl=dead)
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison",
                            MessageAttributes={"a": {"DataType": "String", "StringValue": "b"}})
    for _ in range(2):
        [got] = receive(url, WaitTimeSeconds=20)
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"],
                                      VisibilityTimeout=0)
    [got] = receive(dead, WaitTimeSeconds=20, AttributeNames=["All"], MessageAttributeNames=["All"])
    check("a dead letter is what it was", got["Body"] == "poison" and got["MessageId"] == sent["MessageId"]
          and got["MessageAttributes"]["a"]["StringValue"] == "b")
    check("and where it was", got["Attributes"]["DeadLetterQueueSourceArn"] == arn(url))
    check("not there any more", receive(url) == [])
    sqs.set_queue_attributes(QueueUrl=dead, Attributes={
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"})})
    refused("InvalidAttributeValue", "InvalidAttributeValue", queue, name="denied",
            attributes=policy(arn(dead), 2))
    sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": ""})
    sqs.change_message_visibility(QueueUrl=dead, ReceiptHandle=got["ReceiptHandle"],
                                  VisibilityTimeout=0)
    return url, dead


def moves():
    dead, home = queue("letters"), queue("sender", {"MaxMessages": "1000"})
    policy = {"deadLetterTargetArn": arn(dead), "maxReceiveCount": 1}
    sqs.set_queue_attributes(QueueUrl=home, Attributes={"RedrivePolicy": json.dumps(policy)})
    start, cancel = sqs.start_message_move_task, sqs.cancel_message_move_task
    listed = sqs.list_message_move_tasks
    check("no tasks", listed(SourceArn=arn(dead))["Results"] == [])
    missing = ("ResourceNotFoundException", "ResourceNotFoundException")
    for call in [start, listed]:
        refused(*missing, call, status=404, SourceArn=arn(dead) + "-none")
        refused("InvalidParameterValue", None, call, SourceArn="letters")
    refused(*missing, start, status=404, SourceArn=arn(dead), DestinationArn=arn(dead) + "-none")
    refused("InvalidParameterValue", None, start, SourceArn=arn(home))
    refused("InvalidParameterValue", None, start, SourceArn=arn(dead), DestinationArn=arn(dead))
    refused("InvalidParameterValue", None, start, SourceArn=arn(dead),
            MaxNumberOfMessagesPerSecond=501)
    refused("InvalidParameterValue", None, cancel, TaskHandle="bogus")

    def bury(count):
        """So many messages become dead letters."""
        for n in range(0, count, 10):
            sqs.send_message_batch(QueueUrl=home, Entries=[
                {"Id": str(m), "MessageBody": f"m{m}"} for m in range(n, n + 10)])
            got = receive(home, MaxNumberOfMessages=10, WaitTimeSeconds=5)
            sqs.change_message_visibility_batch(QueueUrl=home, Entries=[
                {"Id": str(at), "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 0}
                for at, m in enumerate(got)])
        until("they are dead letters", lambda: counts(dead) == (count, 0, 0))

    bury(20)
    handle = start(SourceArn=arn(dead))["TaskHandle"]
    until("it ends", lambda: listed(SourceArn=arn(dead))["Results"][0]["Status"] == "COMPLETED")
    [task] = listed(SourceArn=arn(dead))["Results"]
    check("all are back", counts(dead) == (0, 0, 0) and counts(home) == (20, 0, 0))
    check("what is told", task["ApproximateNumberOfMessagesMoved"] == 20
          and task["ApproximateNumberOfMessagesToMove"] == 20 and task["SourceArn"] == arn(dead)
          and "TaskHandle" not in task and abs(task["StartedTimestamp"] / 1000 - time.time()) < 60)
    refused(OLD + "UnsupportedOperation", "UnsupportedOperation", cancel, TaskHandle=handle)
    sqs.purge_queue(QueueUrl=home)

    bury(20)
    other = queue("elsewhere")
    handle = start(SourceArn=arn(dead), DestinationArn=arn(other),
                   MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    refused(OLD + "UnsupportedOperation", "UnsupportedOperation", start, SourceArn=arn(dead))
    until("one is moved", lambda: counts(other)[0])
    [task] = listed(SourceArn=arn(dead))["Results"]
    check("it runs", task["Status"] == "RUNNING" and task["TaskHandle"] == handle
          and task["MaxNumberOfMessagesPerSecond"] == 1 and task["DestinationArn"] == arn(other))
    moved = cancel(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    tasks = listed(SourceArn=arn(dead), MaxResults=10)["Results"]
    check("it is cancelled", [task["Status"] for task in tasks] == ["CANCELLED", "COMPLETED"])
    check("at its rate", 1 <= moved < 20)
    check("nothing is lost", counts(dead)[0] + counts(other)[0] == 20)


def extensions():
    url = queue("extended", {"MaxPriority": "9", "MaxMessages": "3"})

    def send(body, **numbers):
        attributes = {name.replace("_", "-"): {"DataType": "Number", "StringValue": str(value)}
                      for name, value in numbers.items()}
        return sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)
    send("low")
    send("high", Quartet_Priority=9)
    send("short", Quartet_TTL=1)
    got = refused("RequestThrottled", "RequestThrottled", send, status=429, body="too many")
    check("when to come back", got["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1")
    batch = sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "a"}])
    check("too many", batch["Failed"][0]["Code"] == "RequestThrottled"
          and batch["Failed"][0]["SenderFault"] is False)
    refused("InvalidParameterValue", None, send, body="x", Quartet_Priority=10)
    until("one expires", lambda: counts(url) == (2, 0, 0))
    got = receive(url, MaxNumberOfMessages=10)
    check("by priority", [m["Body"] for m in got] == ["high", "low"])


def protocol():
    """What boto3 does not send."""
    import urllib.error
    import urllib.request

    def post(path, headers, body):
        request = urllib.request.Request(ENDPOINT + path, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    json_type = {"Content-Type": "application/x-amz-json-1.0"}
    url = queue("wire")
    target = {**json_type, "X-Amz-Target": "AmazonSQS.SendMessage"}
    body = json.dumps({"QueueUrl": url, "MessageBody": "x"}).encode()
    status, headers, text = post("/000000000000/wire", target, body)
    check("at the URL of the queue", status == 200 and json.loads(text)["MD5OfMessageBody"] == md5("x"))
    check("its type and id", headers["Content-Type"] == "application/x-amz-json-1.0"
          and len(headers["x-amzn-RequestId"]) == 36)
    for call, body, code in [
        ("SendMessage", b"{", "SerializationException"),
        ("SendMessage", b"{\"QueueUrl\":7}", "SerializationException"),
        ("SendMessage", b"{}", "MissingParameter"),
        ("SendMessage", json.dumps({"QueueUrl": url}).encode(), "MissingParameter"),
        ("DeleteMessage", json.dumps({"QueueUrl": url}).encode(), "MissingParameter"),
        ("CreateQueue", b"", "MissingParameter"),
        ("FlyAway", b"{}", "InvalidAction"),
    ]:
        status, headers, text = post("/", {**json_type, "X-Amz-Target": f"AmazonSQS.{call}"}, body)
        check((call, text), status == 400 and headers["x-amzn-query-error"] == f"{code};Sender"
              and json.loads(text)["__type"] == f"com.amazonaws.sqs#{code}")
    status, headers, text = post("/", target, b"x" * (9 << 20))
    check("too large", status == 413 and "x-amzn-query-error" in headers)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, headers, text = post("/", form, b"Action=ListQueues&Version=2012-11-05")
    check("the older protocol", status == 400
          and b"<Code>AWS.SimpleQueueService.UnsupportedOperation</Code>" in text)
    status, headers, text = post("/", json_type, b"{}")
    check("no SQS at all", status == 404 and headers["Content-Type"] == "application/problem+json")

    # The same queue on the broker's own face.
    status, _, text = post("/v1/queues/wire/receive", {"Content-Type": "application/json"}, b"{}")
    check("the same queue", json.loads(text)["messages"][0]["data"] == "x")
    post("/v1/queues/wire/messages", {"Content-Type": "text/plain", "x-attr-colour": "red"}, b"own")
    post("/v1/queues/wire/messages", {"Content-Type": "image/png"}, b"\xff\x00")
    got = receive(url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    check("text", got[0]["Body"] == "own"
          and got[0]["MessageAttributes"]["colour"]["StringValue"] == "red")
    check("bytes", base64.b64decode(got[1]["Body"]) == b"\xff\x00"
          and got[1]["MessageAttributes"]["Quartet-Encoding"]["StringValue"] == "base64")


for part in [queues, messages, waiting, batches, fifo, dead_letters, moves, extensions, protocol]:
    part()
    print(f"  {part.__name__.replace('_', ' ')}: as expected")
print(f"  {checked} checks with boto3 {boto3.__version__}, botocore {botocore.__version__}")
