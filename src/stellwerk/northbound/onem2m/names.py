"""Short and full names: one table for both directions (contract §4.1; TS-0004 clause 8).

Attribute names are unique over all types in either form, so one flat table serves every resource.
"""

from typing import Any, Final, Literal, TypeAlias

Form: TypeAlias = Literal["short", "full"]

AE, CNT, CIN, CB, GRP, MGMT_OBJ, NOD, SUB, FCNT = 2, 3, 4, 5, 9, 13, 14, 23, 28

ENVELOPES: Final[dict[str, tuple[int, str]]] = {
    "m2m:acp": (1, "accessControlPolicy"),
    "m2m:ae": (AE, "AE"),
    "m2m:cnt": (CNT, "container"),
    "m2m:cin": (CIN, "contentInstance"),
    "m2m:cb": (CB, "CSEBase"),
    "m2m:grp": (GRP, "group"),
    "m2m:nod": (NOD, "node"),
    "m2m:sub": (SUB, "subscription"),
    "m2m:fwr": (MGMT_OBJ, "firmware"),
    "m2m:swr": (MGMT_OBJ, "software"),
    "m2m:mem": (MGMT_OBJ, "memory"),
    "m2m:bat": (MGMT_OBJ, "battery"),
    "m2m:dvi": (MGMT_OBJ, "deviceInfo"),
    "m2m:dvc": (MGMT_OBJ, "deviceCapability"),
    "m2m:rbo": (MGMT_OBJ, "reboot"),
    "m2m:evl": (MGMT_OBJ, "eventLog"),
    # What the vendor writes, and what standards clients do (TS-0022).
    "m2m:crds": (MGMT_OBJ, "credentials"),
    "dcfg:crds": (MGMT_OBJ, "dcfg:credentials"),
    # Vendor flexContainers keep their envelope in both forms.
    "dtiot:noPRt": (FCNT, "dtiot:noPRt"),
    "dtiot:prRRe": (FCNT, "dtiot:prRRe"),
    "dtiot:devGr": (FCNT, "dtiot:devGr"),
}
"""Short envelope to resource type and full envelope."""

ATTRIBUTES: Final[dict[str, str]] = {
    # universal and common
    "ty": "resourceType",
    "ri": "resourceID",
    "rn": "resourceName",
    "pi": "parentID",
    "ct": "creationTime",
    "lt": "lastModifiedTime",
    "et": "expirationTime",
    "lbl": "labels",
    "acpi": "accessControlPolicyIDs",
    "st": "stateTag",
    "cr": "creator",
    "cstn": "custodian",
    "at": "announceTo",
    "aa": "announcedAttribute",
    "ast": "announceSyncType",
    "daci": "dynamicAuthorizationConsultationIDs",
    "loc": "location",
    # CSEBase
    "csi": "CSE-ID",
    "cst": "cseType",
    "srt": "supportedResourceType",
    "srv": "supportedReleaseVersions",
    "poa": "pointOfAccess",
    "csz": "contentSerialization",
    "ctm": "currentTime",
    "nl": "nodeLink",
    "spi": "SP-ID",
    # AE
    "api": "App-ID",
    "aei": "AE-ID",
    "apn": "appName",
    "rr": "requestReachability",
    "or": "ontologyRef",
    # container and contentInstance
    "mni": "maxNrOfInstances",
    "mbs": "maxByteSize",
    "mia": "maxInstanceAge",
    "cni": "currentNrOfInstances",
    "cbs": "currentByteSize",
    "disr": "disableRetrieval",
    "li": "locationID",
    "con": "content",
    "cnf": "contentInfo",
    "cs": "contentSize",
    "conr": "contentRef",
    "dcnt": "deletionCnt",
    "dgt": "dataGenerationTime",
    # node
    "ni": "nodeID",
    "hael": "hostedAELinks",
    "hcl": "hostedCSELink",
    "mgca": "mgmtClientAddress",
    "nty": "nodeType",
    "nid": "networkID",
    # every mgmtObj
    "mgd": "mgmtDefinition",
    "dc": "description",
    "obis": "objectIDs",
    "obps": "objectPaths",
    "mgs": "mgmtSchema",
    "cmlk": "mgmtLink",
    # deviceInfo
    "dlb": "deviceLabel",
    "man": "manufacturer",
    "mod": "model",
    "smod": "subModel",
    "dty": "deviceType",
    "dvnm": "deviceName",
    "fwv": "fwVersion",
    "swv": "swVersion",
    "hwv": "hwVersion",
    "osv": "osVersion",
    "cnty": "country",
    "syst": "systemTime",
    "ptl": "protocol",
    "mfd": "manufacturingDate",
    "mfdl": "manufacturerDetailsLink",
    "spur": "supportURL",
    "purl": "presentationURL",
    # credentials
    "crid": "credentialID",
    "crse": "credentialSecret",
    "crtk": "credentialToken",
    "pur": "purpose",
    # firmware and software
    "vr": "version",
    "fwn": "firmwareName",
    "url": "URL",
    "uds": "updateStatus",
    "acn": "action",
    "sus": "status",
    "ud": "update",
    "swn": "softwareName",
    "ins": "installStatus",
    "acts": "activeStatus",
    "in": "install",
    "un": "uninstall",
    "act": "activate",
    "dea": "deactivate",
    # memory, battery, capability, reboot, event log
    "mma": "memAvailable",
    "mmt": "memTotal",
    "btl": "batteryLevel",
    "bts": "batteryStatus",
    "can": "capabilityName",
    "att": "attached",
    "cas": "capabilityActionStatus",
    "ena": "enable",
    "dis": "disable",
    "cus": "currentState",
    "rbo": "reboot",
    "far": "factoryReset",
    "lgt": "logTypeId",
    "lgd": "logData",
    "lgst": "logStatus",
    "lga": "logStart",
    "lgo": "logStop",
    # group
    "mt": "memberType",
    "mid": "memberIDs",
    "mnm": "maxNrOfMembers",
    "cnm": "currentNrOfMembers",
    "macp": "membersAccessControlPolicyIDs",
    "mtv": "memberTypeValidated",
    "csy": "consistencyStrategy",
    "gn": "groupName",
    # subscription
    "nu": "notificationURI",
    "enc": "eventNotificationCriteria",
    "net": "notificationEventType",
    "atr": "attribute",
    "chty": "childResourceType",
    "om": "operationMonitor",
    "nct": "notificationContentType",
    "su": "subscriberURI",
    "exc": "expirationCounter",
    "bn": "batchNotify",
    "pn": "pendingNotification",
    "ln": "latestNotify",
    "nec": "notificationEventCat",
    "nfu": "notificationForwardingURI",
    "gpi": "groupID",
    "nse": "notificationStatsEnable",
    "nsi": "notificationStatsInfo",
    # flexContainer and access control policy
    "cnd": "containerDefinition",
    "pv": "privileges",
    "pvs": "selfPrivileges",
    "acr": "accessControlRules",
    "acor": "accessControlOriginators",
    "acop": "accessControlOperations",
    "acco": "accessControlContexts",
    # vendor flexContainers: provisioning request and response, device group
    "opern": "operation",
    "reqLt": "requestList",
    "noRNe": "nodeResourceName",
    "ICCID": "ICCID",
    "profe": "profile",
    "nCr": "nodeCredentials",
    "nDGr": "nodeDeviceGroups",
    "ndvi": "nodeDeviceInfo",
    "reqRD": "requestResourceID",
    "resSs": "responseStatus",
    "geEMe": "generalErrorMessage",
    "inEMs": "individualErrorMessages",
    "nds": "nodes",
    "aes": "applicationEntities",
    "poah": "poah",
}
"""Short name to full name."""

STRUCTURED: Final = frozenset({"enc", "uds", "cas", "acts", "ins", "pv", "pvs", "acr", "reqLt", "ndvi"})
"""Attributes whose values are themselves made of named attributes; everything else is data and passes untouched."""

_ALIASES: Final = {"firmwareVersion": "fwv", "softwareVersion": "swv", "holder": "cstn"}
"""Spellings that pages print beside the standard's; understood, never written."""

SHORT: Final[dict[str, str]] = {**{full: short for short, full in ATTRIBUTES.items()}, **_ALIASES}
"""Full name (or alias) to short name."""


class NamedTwice(ValueError):
    """``name`` (short) stands in an object in more than one of its forms."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} is given twice, as {name} and as {ATTRIBUTES[name]}")


def envelope_name(short: str, form: Form) -> str:
    """The envelope in ``form``; one the table does not know stays as it is."""
    if form == "short":
        return short
    known = ENVELOPES.get(short)
    return short if known is None else known[1]


def envelope_of(name: str) -> str | None:
    """The short envelope of a name in either form, or None where no type has it."""
    if name in ENVELOPES:
        return name
    return _ENVELOPE_OF_FULL.get(name)


_ENVELOPE_OF_FULL: Final = {full: short for short, (_, full) in ENVELOPES.items()}


def to_form(attributes: dict[str, Any], form: Form) -> dict[str, Any]:
    """A resource's attributes, given with short names, in ``form``. Nested child resources are lists under their short
    envelope and are translated with it."""
    if form == "short":
        return attributes
    return {_full_name(name): _full_value(name, value) for name, value in attributes.items()}


def _full_name(name: str) -> str:
    full = ATTRIBUTES.get(name)
    return envelope_name(name, "full") if full is None else full


def _full_value(name: str, value: Any) -> Any:
    if name not in STRUCTURED and name not in ENVELOPES:
        return value
    if isinstance(value, dict):
        return to_form(value, "full")
    if isinstance(value, list):
        return [to_form(each, "full") if isinstance(each, dict) else each for each in value]
    return value


def to_short(attributes: dict[str, Any]) -> dict[str, Any]:
    """What a client wrote, in short, full or mixed names, with short names; unknown names stay. Raises `NamedTwice`."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        short = SHORT.get(name, name)
        if short in found:
            raise NamedTwice(short)
        found[short] = _short_value(short, value)
    return found


def _short_value(name: str, value: Any) -> Any:
    if name not in STRUCTURED:
        return value
    if isinstance(value, dict):
        return to_short(value)
    if isinstance(value, list):
        return [to_short(each) if isinstance(each, dict) else each for each in value]
    return value
