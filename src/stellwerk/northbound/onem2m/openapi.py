"""The oneM2M tree in the OpenAPI document. The routes are one plain ASGI application, so they are described here."""

from typing import Any, Final

_HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "X-M2M-Origin",
        "in": "header",
        "required": True,
        "description": "AE-ID of the caller",
        "schema": {"type": "string", "example": "CAdmin"},
    },
    {
        "name": "X-M2M-RI",
        "in": "header",
        "required": True,
        "description": "Request ID, echoed in the answer",
        "schema": {"type": "string", "example": "123"},
    },
    {
        "name": "fullName",
        "in": "header",
        "description": "Full (true) or short (false) names in the answer",
        "schema": {"type": "boolean"},
    },
]
_CHILDREN: Final[list[dict[str, Any]]] = [
    {
        "name": "rcn",
        "in": "query",
        "description": "1 attributes, 4 with children, 5 with references, 8 children, 6 references, 11 all addresses",
        "schema": {"type": "integer", "enum": [1, 4, 5, 6, 8, 11]},
    },
    {"name": "ty", "in": "query", "description": "Resource type of children", "schema": {"type": "integer"}},
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
    {"name": "offset", "in": "query", "schema": {"type": "integer", "minimum": 0}},
]
_DEVICE: Final = "/device-communication/{device}"
_CONTAINERS: Final = ("outgoing-msg", "sent-msg", "received-msg")
_COMMAND: Final = {"m2m:cin": {"con": "READ /3/0/0"}}
_DATA: Final = {"m2m:cin": {"con": {"temperature": 21.5}, "cnf": "application/json:0"}}
_LABELS: Final = {"m2m:nod": {"lbl": ["d2c-uplink-property_Room:2035"]}}
_KEY: Final = {"m2m:crds": {"mgd": 1029, "crid": "device001", "crse": "psk-hex:00112233445566778899aabbccddeeff"}}
_INFO: Final = {"m2m:dvi": {"mgd": 1007, "man": "Maker"}}
_APPLICATION: Final = {
    "m2m:ae": {"rn": "myApplication", "api": "NmyApplication", "poa": ["https://example.com/hook"]},
}
_ORDER: Final = {
    "dtiot:noPRt": {
        "opern": 1,
        "reqLt": [{"noRNe": "device001", "ni": "urn:gsma:imei:350000000000001", "profe": "SCS-LwM2M"}],
    }
}


def describe(prefix: str) -> dict[str, Any]:
    """Path items of a mount at ``prefix``, by path."""
    base = prefix + "/{tenant}"
    paths: dict[str, Any] = {
        base: {
            "get": _retrieve("The tenant, a CSEBase", children=True),
            "post": _create("Register an application", 2, _APPLICATION),
        },
        f"{base}/{{device}}": {
            "get": _retrieve("A device: node ID, labels, when it was last heard", children=True),
            "put": _update("Replace a device's labels", _LABELS),
            "post": _create("Give a device a key or a description", 13, _KEY),
            "delete": _operation("Remove a device with everything that is its own", {"200": "removed"}),
        },
        f"{base}/{{device}}/device-info": {
            "get": _retrieve("What a device is: manufacturer, model, versions"),
            "put": _update("Change what people know of a device", _INFO),
            "delete": _operation("Forget what people know of a device", {"200": "removed"}),
        },
        f"{base}/{{device}}/credentials": {
            "get": _retrieve("A device's key, for tokens that may write"),
            "put": _update("Change a device's key", _KEY),
            "delete": _operation("Take a device's key away", {"200": "removed"}),
        },
        f"{base}/device-provisioning/request": {
            "get": _retrieve("Provisioning requests", children=True),
            "post": _create("Create (opern 1) or remove (opern 2) devices", 28, _ORDER),
        },
        f"{base}/device-provisioning/response/{{name}}": {
            "get": _retrieve("The result of a provisioning request, named responseToRequest-<its resource ID>")
        },
    }
    for container in _CONTAINERS:
        path = f"{base}{_DEVICE}/{container}"
        paths[path] = {"get": _retrieve(f"The container {container}", children=True)}
        remove = "Cancel what waits of" if container == "outgoing-msg" else "Delete"
        for name, which in (("la", "the newest message"), ("ol", "the oldest message"), ("{name}", "a message")):
            paths[f"{path}/{name}"] = {
                "get": _retrieve(f"{which.capitalize()} of {container}"),
                "delete": _operation(f"{remove} {which}", {"200": "removed"}),
            }
    paths[f"{base}{_DEVICE}/outgoing-msg"]["post"] = _create("Send commands to a device", 4, _COMMAND)
    paths[f"{base}{_DEVICE}/received-msg"]["post"] = _create("Inject a message as if the device had sent it", 4, _DATA)
    for path, item in paths.items():
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("tenant", "device", "name")
            if f"{{{name}}}" in path
        ] + _HEADERS
    return paths


def _operation(summary: str, answers: dict[str, str]) -> dict[str, Any]:
    responses: dict[str, Any] = {status: {"description": text} for status, text in answers.items()}
    responses["default"] = {
        "description": "Refused; X-M2M-RSC has the code",
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"m2m:dbg": {"type": "string"}}, "required": ["m2m:dbg"]}
            }
        },
    }
    return {"summary": summary, "tags": ["Device to Cloud"], "security": [{"bearer": []}], "responses": responses}


def _retrieve(summary: str, children: bool = False) -> dict[str, Any]:
    operation = _operation(summary, {"200": "found"})
    if children:
        operation["parameters"] = _CHILDREN
    return operation


def _create(summary: str, resource_type: int, example: dict[str, Any]) -> dict[str, Any]:
    return _with_body(_operation(summary, {"201": "stored"}), f"application/json;ty={resource_type}", example)


def _update(summary: str, example: dict[str, Any]) -> dict[str, Any]:
    return _with_body(_operation(summary, {"200": "updated"}), "application/json", example)


def _with_body(operation: dict[str, Any], media: str, example: dict[str, Any]) -> dict[str, Any]:
    operation["requestBody"] = {
        "required": True,
        "content": {media: {"schema": {"type": "object"}, "example": example}},
    }
    return operation
