"""Requests held against AWS's own service models, as they come with botocore.

A request breaks a model where it lacks a required member, has one that the model doesn't know, or a value that is out of
its enumeration, length, range or pattern. Bodies of forms and of JSON are judged, and the parts of a path.
"""

import collections
import functools
import json
import re
import urllib.parse

import botocore.session

# What a request is signed for, where the model has another name.
NAMES = {"elasticloadbalancing": "elbv2", "monitoring": "cloudwatch"}
# Classes of characters that Python's expressions don't know, by ones that take at least as much.
CLASSES = {r"\p{L}": r"\w", r"\p{M}": r"\w", r"\p{N}": r"\w", r"\p{Z}": r"\s", r"\p{S}": r"\W", r"\p{P}": r"\W"}

# How many requests were judged, by service and operation.
judged = collections.Counter()


@functools.cache
def model(service):
    return botocore.session.get_session().get_service_model(NAMES.get(service, service))


@functools.cache
def pattern(text):
    """The expression of a pattern; none where Python has no such expression."""
    for java, python in CLASSES.items():
        text = text.replace(java, python)
    try:
        return re.compile(text)
    except re.error:
        return None


def nested(fields):
    """The fields of a form as a tree: `A.member.1.B=c` is `{"A": {"member": {"1": {"B": "c"}}}}`."""
    tree = {}
    for name, value in fields:
        *parents, last = name.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                return None
        node[last] = value
    return tree


def in_order(node):
    return [node[key] for key in sorted(node, key=lambda key: int(key) if key.isdigit() else 0)]


class Form:
    """How a form names things: with the query protocol, or as EC2 does."""

    numbers = str

    def __init__(self, protocol):
        self.is_ec2 = protocol == "ec2"

    def member(self, name, shape):
        written = shape.serialization.get("name")
        if self.is_ec2:
            return shape.serialization.get("queryName") or (written or name)[:1].upper() + (written or name)[1:]
        return written or name

    def is_boolean(self, value):
        return value in ("true", "false")

    def items(self, shape, node):
        if node == "":
            return []
        if not self.is_ec2 and not shape.serialization.get("flattened"):
            node = node.get(shape.member.serialization.get("name", "member"))
        return in_order(node) if isinstance(node, dict) else None

    def pairs(self, shape, node):
        if not self.is_ec2 and not shape.serialization.get("flattened"):
            node = node.get("entry", {})
        entries = in_order(node) if isinstance(node, dict) else []
        names = [part.serialization.get("name", name) for part, name in ((shape.key, "key"), (shape.value, "value"))]
        return [(entry.get(names[0], ""), entry.get(names[1], "")) for entry in entries]


class Json:
    """How JSON does."""

    numbers = (int, float)

    def member(self, name, shape):
        return shape.serialization.get("name", name)

    def is_boolean(self, value):
        return isinstance(value, bool)

    def items(self, shape, node):
        return node if isinstance(node, list) else None

    def pairs(self, shape, node):
        return list(node.items())


def size(shape, count, path, what):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and count < least:
        yield f"{path} has {count} {what}, {least} at least"
    if most is not None and count > most:
        yield f"{path} has {count} {what}, {most} at most"


def breaches_of_text(shape, text, path):
    if not isinstance(text, str):
        yield f"{path} = {text!r} is no text"
        return
    if shape.enum and text not in shape.enum:
        yield f"{path} = {text!r} is none of {', '.join(shape.enum)}"
    yield from size(shape, len(text), path, "characters")
    written = shape.metadata.get("pattern")
    expression = written and pattern(written)
    if expression:
        found = expression.search(text) if written.startswith("^") else expression.fullmatch(text)
        if not found:
            yield f"{path} = {text!r} does not match {written}"


def breaches_of_number(shape, value, path, style):
    try:
        if not isinstance(value, style.numbers):
            raise TypeError
        number = float(value) if shape.type_name in ("float", "double") else int(value)
    except (TypeError, ValueError):
        yield f"{path} = {value!r} is no {shape.type_name}"
        return
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and number < least) or (most is not None and number > most):
        yield f"{path} = {number} is not within {least} to {most}"


def breaches_of_structure(shape, node, path, style):
    if not isinstance(node, dict):
        yield f"{path or shape.name} = {node!r} is no structure"
        return
    known = {style.member(name, member): (name, member) for name, member in shape.members.items()}
    for written, value in node.items():
        name, member = known.get(written, (written, None))
        inner = f"{path}.{name}" if path else name
        if member is None:
            yield f"{inner} is no member of {shape.name}"
        elif value is not None:
            yield from breaches(member, value, inner, style)
    for name in shape.required_members:
        member = shape.members[name]
        if "location" not in member.serialization and node.get(style.member(name, member)) is None:
            yield f"{path + '.' if path else ''}{name} is required"


def breaches(shape, value, path, style):
    """What of a value breaks its shape."""
    match shape.type_name:
        case "structure":
            yield from breaches_of_structure(shape, value, path, style)
        case "list":
            items = style.items(shape, value)
            if items is None:
                yield f"{path} = {value!r} is no list"
                return
            yield from size(shape, len(items), path, "items")
            for n, item in enumerate(items):
                yield from breaches(shape.member, item, f"{path}[{n}]", style)
        case "map":
            pairs = style.pairs(shape, value)
            yield from size(shape, len(pairs), path, "entries")
            for key, item in pairs:
                yield from breaches(shape.key, key, f"{path} (a key)", style)
                yield from breaches(shape.value, item, f"{path}[{key!r}]", style)
        case "string" | "character":
            yield from breaches_of_text(shape, value, path)
        case "integer" | "long" | "short" | "byte" | "float" | "double":
            yield from breaches_of_number(shape, value, path, style)
        case "boolean":
            if not style.is_boolean(value):
                yield f"{path} = {value!r} is neither true nor false"


def by_path(service, method, path):
    """The operation of a request that only its path names, and what the path holds."""
    for name in model(service).operation_names:
        operation = model(service).operation_model(name)
        uri = operation.http["requestUri"].split("?")[0]
        found = re.fullmatch(re.sub(r"\\\{(\w+)\\?\+?\\\}", r"(?P<\1>.+?)", re.escape(uri)), path)
        if found and operation.http["method"] == method:
            return operation, {key: urllib.parse.unquote(part) for key, part in found.groupdict().items()}
    return None, {}


def check(service, operation, kind, body, method="POST", path="/"):
    """What of a request breaks the model, as a list of sentences."""
    # Only its method and its path name it.
    if " " in operation:
        found, parts = by_path(service, method, path)
        if found is None:
            return [f"{service} has no {method} {path}"]
        judged[f"{service} {found.name}"] += 1
        members = found.input_shape.members.items() if found.input_shape else []
        names = {member.serialization.get("name", name): member for name, member in members}
        return [breach for key, part in parts.items() for breach in breaches(names[key], part, key, Json())]
    if operation not in model(service).operation_names:
        return [f"{service} has no operation {operation}"]
    judged[f"{service} {operation}"] += 1
    shape = model(service).operation_model(operation).input_shape
    if kind.startswith("application/x-www-form-urlencoded"):
        fields = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)
        tree = nested([field for field in fields if field[0] not in ("Action", "Version")])
        style = Form(model(service).metadata["protocol"])
    else:
        tree, style = json.loads(body or b"{}"), Json()
    if tree is None:
        return ["the form's names don't fit each other"]
    if shape is None:
        return [f"{name} is no member: there is none" for name in tree]
    return list(breaches(shape, tree, "", style))
