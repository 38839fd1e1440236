"""The schema of both databases as SQLAlchemy tables: what migrations lead to (a test compares) and other stores share.

Times are UTC milliseconds since 1970. Columns named ``labels``, ``attributes``, ``extra``, ``device_info``,
``tenants``, ``content_formats`` and ``steps`` hold JSON text. Hot paths use plain statements (`sqlite`), not these
objects.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

_Key = BigInteger().with_variant(Integer(), "sqlite")
OPEN_STEPS = "step IN ('queued','sent','delivered')"
BEHIND = "gateway_id > 0"
BY_ADDRESS = "address_key IS NOT NULL"
RUNNING = "state='running'"

deciding = MetaData()
projected = MetaData()


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _text(name: str, *, nullable: bool = False) -> "Column[str]":
    return Column(name, Text, nullable=nullable)


def _blob(name: str) -> "Column[bytes]":
    return Column(name, LargeBinary, nullable=False)


def _device() -> "Column[int]":
    # What hangs on a device goes with it; only what decides has this (the projected file is a database of its own).
    return Column("device_id", BigInteger, ForeignKey("device.id", ondelete="CASCADE"), nullable=False)


def _identity(name: str, kind: "TypeEngine[int]") -> "Column[int]":
    return Column(name, kind, primary_key=True)


def _message_columns() -> "list[Column[Any]]":
    return [
        _number("state_tag"),
        _text("resource_id"),
        _text("resource_name"),
        _number("created_ms"),
        _number("content_size"),
        _text("content_info", nullable=True),
        _text("creator"),
        _text("labels"),
        _text("content"),
    ]


# -- what decides --

meta = Table("meta", deciding, Column("name", Text, primary_key=True), _blob("value"))

tenant = Table(
    "tenant", deciding, _identity("id", _Key), Column("name", Text, unique=True, nullable=False), _number("created_ms")
)

# Identifiers of devices and commands are never used again: the journal and message ids refer to them.
device = Table(
    "device",
    deciding,
    _identity("id", _Key),
    Column("tenant_id", BigInteger, ForeignKey("tenant.id"), nullable=False),
    _text("name"),
    Column("node_id", Text, unique=True, nullable=False),
    _text("labels"),
    _text("profile"),
    _text("security"),
    _text("device_info"),
    _number("created_ms"),
    _number("modified_ms"),
    # `app.resource_ids.device_key`, by which resource IDs are found.
    Column("resource_key", Text, nullable=False, server_default=""),
    # Of an end device behind a gateway (LwM2M Gateway, object 25): whose (0: of none), and the segment before its
    # paths. No foreign key: SQLite adds none to a table that is there.
    Column("gateway_id", BigInteger, nullable=False, server_default="0"),
    Column("gateway_prefix", Text, nullable=False, server_default=""),
    UniqueConstraint("tenant_id", "name"),
    Index("device_by_resource_key", "resource_key"),
    Index("device_of_gateway", "gateway_id", sqlite_where=text(BEHIND), postgresql_where=text(BEHIND)),
    sqlite_autoincrement=True,
)

credential = Table(
    "credential",
    deciding,
    Column("device_id", _Key, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("identity", Text, unique=True, nullable=False),
    # Sealed by `storage.vault`.
    _blob("secret"),
    _text("description"),
    _text("envelope"),
    _number("created_ms"),
    _number("modified_ms"),
    # "psk", "rpk" or "x509"; "nosec" where only what a bootstrap server gives the device is secret.
    Column("kind", Text, nullable=False, server_default="psk"),
    Column("endpoint", Text, nullable=False, server_default=""),
    # Sealed like the secret; NULL where there is none.
    Column("bootstrap", LargeBinary),
    # NULL of a pre-shared key.
    Column("key_id", Text),
    # How the bootstrap server finds the device (`app.credential_record.bootstrap_id`), NULL where it does not by a key.
    Column("bootstrap_id", Text),
    # Sealed like the secret; NULL where there is none.
    Column("oscore", LargeBinary),
    Column("spent_ms", BigInteger, nullable=False, server_default="0"),
    Index("credential_by_key", "key_id", unique=True),
    Index("credential_by_bootstrap", "bootstrap_id", unique=True),
)

# What a device was given and has not used yet, whole in ``sealed``.
fresh_credential = Table(
    "fresh_credential",
    deciding,
    Column("device_id", _Key, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("identity", Text, unique=True, nullable=False),
    Column("key_id", Text, unique=True),
    _blob("sealed"),
    _number("created_ms"),
)

# OSCORE security contexts: of a device the one that holds, the one of its fresh credential, and the one that it has at
# the bootstrap server. Numbers are never used again: a context's number is its peer's. ``ceiling``: -1 where nobody
# knows which numbers were used. ``fingerprint`` stands for all that our key is made of, which no two share.
oscore_context = Table(
    "oscore_context",
    deciding,
    _identity("id", _Key),
    _device(),
    _number("is_fresh"),
    _number("is_bootstrap"),
    _blob("sender_id"),
    _blob("id_context"),
    _blob("sealed"),
    Column("fingerprint", LargeBinary, unique=True, nullable=False),
    _number("ceiling"),
    _number("created_ms"),
    UniqueConstraint("sender_id", "is_bootstrap"),
    UniqueConstraint("device_id", "is_fresh", "is_bootstrap"),
    sqlite_autoincrement=True,
)

# Contexts that there are no more, and were used: where one comes again, its numbers go on.
oscore_spent = Table(
    "oscore_spent",
    deciding,
    Column("fingerprint", LargeBinary, primary_key=True),
    _number("ceiling"),
    sqlite_with_rowid=False,
)

bootstrap_session = Table(
    "bootstrap_session",
    deciding,
    _identity("id", _Key),
    _device(),
    _number("started_ms"),
    _number("ended_ms"),
    _text("endpoint_name"),
    _text("peer"),
    _text("started_by"),
    _text("state"),
    _text("reason"),
    _text("detail"),
    _text("steps"),
    Index("bootstrap_session_of_device", "device_id", "id"),
    Index("bootstrap_session_running", "state", sqlite_where=text(RUNNING), postgresql_where=text(RUNNING)),
    sqlite_autoincrement=True,
)

# Whose credentials changed and whose sessions and registration have not ended yet. Numbers grow; a device whose
# credentials change again gets a new one. ``only_bootstrap``: the registration stays, and so do the sessions with the
# server of devices.
credential_change = Table(
    "credential_change",
    deciding,
    _identity("id", _Key),
    Column("device_id", BigInteger, ForeignKey("device.id", ondelete="CASCADE"), unique=True, nullable=False),
    Column("only_bootstrap", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

# Numbers grow: of two sessions the one with the higher was made later. ``address_key`` is made of ``address``, and NULL
# of a session that nobody finds by it: each index costs a handshake a page of its own. ``sealed`` by `storage.vault`.
secure_session = Table(
    "secure_session",
    deciding,
    _identity("id", _Key),
    Column("session_id", LargeBinary, unique=True, nullable=False),
    _device(),
    Column("address_key", BigInteger),
    _text("address"),
    _number("ceiling"),
    _number("read_mark"),
    _number("created_ms"),
    _number("modified_ms"),
    _blob("sealed"),
    Index("secure_session_of_device", "device_id"),
    Index("secure_session_by_address", "address_key", sqlite_where=text(BY_ADDRESS), postgresql_where=text(BY_ADDRESS)),
)

# What secure sessions have read: one row per group commit (`storage.sqlite.marks`), and a row for each session that
# these are swept into, narrow so that many are on a page.
session_mark = Table("session_mark", deciding, _identity("id", _Key), _number("time_ms"), _blob("packed"))

session_read = Table(
    "session_read",
    deciding,
    Column("session_id", LargeBinary, ForeignKey("secure_session.session_id", ondelete="CASCADE"), primary_key=True),
    _number("read_mark"),
    _number("heard_ms"),
    sqlite_with_rowid=False,
)

device_alias = Table(
    "device_alias",
    deciding,
    _text("alias"),
    _number("rank"),
    _device(),
    PrimaryKeyConstraint("alias", "rank", "device_id"),
    Index("device_alias_of_device", "device_id"),
    sqlite_with_rowid=False,
)

removed_device = Table(
    "removed_device", deciding, _identity("id", _Key), _number("device_id"), _number("seq"), sqlite_autoincrement=True
)

registration = Table(
    "registration",
    deciding,
    Column("device_id", _Key, ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("location", Text, unique=True, nullable=False),
    _text("endpoint_name"),
    _text("peer"),
    _text("version"),
    _number("lifetime_s"),
    _text("binding"),
    _number("queue_mode"),
    _blob("body"),
    _text("content_formats"),
    _number("registered_ms"),
    _number("updated_ms"),
    _text("sms"),
    _text("extra"),
    _number("deadline_ms"),
    Index("registration_of_peer", "peer"),
    Index("registration_by_deadline", "deadline_ms"),
)

observation = Table(
    "observation",
    deciding,
    _device(),
    _text("path"),
    Column("token", LargeBinary, unique=True, nullable=False),
    Column("accept", BigInteger),
    _text("attributes"),
    _text("labels"),
    _number("created_ms"),
    PrimaryKeyConstraint("device_id", "path"),
)

command = Table(
    "command",
    deciding,
    _identity("id", _Key),
    _device(),
    _text("outgoing_ri"),
    _text("outgoing_rn"),
    _text("request_id"),
    _text("method"),
    _text("operation"),
    _text("content"),
    _text("content_info", nullable=True),
    _text("step"),
    _number("created_ms"),
    _number("expires_ms"),
    _number("changed_ms"),
    _text("reason"),
    _text("detail"),
    # The higher goes first; among equals the older.
    Column("priority", BigInteger, nullable=False, server_default="0"),
    Index("command_open", "id", sqlite_where=text(OPEN_STEPS), postgresql_where=text(OPEN_STEPS)),
    Index(
        "command_open_of_device", "device_id", "id", sqlite_where=text(OPEN_STEPS), postgresql_where=text(OPEN_STEPS)
    ),
    Index("command_due", "expires_ms", sqlite_where=text(OPEN_STEPS), postgresql_where=text(OPEN_STEPS)),
    Index("command_of_outgoing", "outgoing_ri"),
    Index("command_of_device", "device_id"),
    sqlite_autoincrement=True,
)

outgoing_message = Table(
    "outgoing_message",
    deciding,
    _device(),
    *_message_columns(),
    PrimaryKeyConstraint("device_id", "state_tag"),
    UniqueConstraint("device_id", "resource_name"),
    Index("outgoing_message_by_resource_id", "resource_id"),
    sqlite_with_rowid=False,
)

sent_message = Table(
    "sent_message",
    deciding,
    _device(),
    *_message_columns(),
    Column("command_id", BigInteger, nullable=False, unique=True),
    PrimaryKeyConstraint("device_id", "state_tag"),
    Index("sent_message_by_resource_id", "resource_id"),
    sqlite_with_rowid=False,
)

message_container = Table(
    "message_container",
    deciding,
    _device(),
    _text("container"),
    _number("state_tag"),
    _number("modified_ms"),
    PrimaryKeyConstraint("device_id", "container"),
    sqlite_with_rowid=False,
)

tree_resource = Table(
    "tree_resource",
    deciding,
    Column("tenant_id", BigInteger, ForeignKey("tenant.id"), nullable=False),
    _text("parent"),
    _text("resource_name"),
    _text("resource_id"),
    _number("resource_type"),
    _text("envelope"),
    _text("creator"),
    _text("labels"),
    _number("created_ms"),
    _number("modified_ms"),
    _number("state_tag"),
    _text("attributes"),
    PrimaryKeyConstraint("tenant_id", "parent", "resource_name"),
    Index("tree_resource_by_id", "tenant_id", "resource_id"),
)

# What devices of one kind have in common. ``settings`` and ``bootstrap`` are JSON text; the latter is empty where
# nothing is bootstrapped.
profile = Table(
    "profile",
    deciding,
    Column("tenant_id", BigInteger, ForeignKey("tenant.id"), nullable=False),
    _text("name"),
    _text("settings"),
    _number("created_ms"),
    _number("modified_ms"),
    Column("bootstrap", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("tenant_id", "name"),
)

# Object models that were imported. ``tenant`` is a tenant's name, empty for all; ``source`` the XML as it came.
object_model = Table(
    "object_model",
    deciding,
    _text("tenant"),
    _number("object_id"),
    _text("version"),
    _text("name"),
    _text("file_name"),
    _blob("source"),
    _number("created_ms"),
    _number("modified_ms"),
    PrimaryKeyConstraint("tenant", "object_id", "version"),
)

# Object lists that profile IDs stand for (Register with ``pid``), as link format.
object_list = Table(
    "object_list", deciding, Column("profile_id", Text, primary_key=True), _blob("body"), _number("created_ms")
)

account = Table(
    "account",
    deciding,
    Column("name", Text, primary_key=True),
    _text("password_hash"),
    _text("authority"),
    _text("tenant"),
    _number("created_ms"),
)

api_client = Table(
    "api_client",
    deciding,
    Column("client_id", Text, primary_key=True),
    _text("secret_hash"),
    _text("tenants"),
    _text("role"),
    _number("created_ms"),
)

# One row per group commit. ``receipts`` comes before ``entries``, so that a search for one reads few pages.
journal = Table(
    "journal",
    deciding,
    _identity("first", _Key),
    _number("last"),
    _number("time_ms"),
    _blob("receipts"),
    _blob("entries"),
)

# -- what is only read --

projection = Table(
    "projection", projected, _identity("id", _Key), _number("seq"), _number("removals"), _number("failures")
)

device_state = Table(
    "device_state",
    projected,
    _identity("device_id", _Key),
    _text("status"),
    _number("last_seen_ms"),
    _number("registered_ms"),
    _number("updated_ms"),
    _number("deregistered_ms"),
    _number("expired_ms"),
    _number("message_tag"),
    _number("message_oldest"),
    _number("message_bytes"),
    _number("message_ms"),
    _number("log_tag"),
    _number("log_oldest"),
    # The last entry that counts in here: an entry that is read again changes nothing.
    _number("seq"),
    # Of the newest registration, whether it still stands or not.
    Column("endpoint_name", Text, nullable=False, server_default=""),
)

device_model = Table("device_model", projected, _identity("device_id", _Key), _text("version"), _blob("body"))

current_value = Table(
    "current_value",
    projected,
    _number("device_id"),
    _text("path"),
    _text("value"),
    _number("time_ms"),
    _number("seq"),
    PrimaryKeyConstraint("device_id", "path"),
    sqlite_with_rowid=False,
)

# One row per entry with all its values: a row per value would touch a page for every path of every device that sent.
# ``packed`` is MessagePack of [[path, JSON text, time_ms], ...].
value_history = Table(
    "value_history",
    projected,
    _number("device_id"),
    _number("newest_ms"),
    _number("seq"),
    _number("oldest_ms"),
    _blob("packed"),
    PrimaryKeyConstraint("device_id", "newest_ms", "seq"),
    sqlite_with_rowid=False,
)

received_message = Table(
    "received_message",
    projected,
    _number("device_id"),
    *_message_columns(),
    _number("seq"),
    PrimaryKeyConstraint("device_id", "state_tag"),
    sqlite_with_rowid=False,
)

device_log = Table(
    "device_log",
    projected,
    _number("device_id"),
    _number("tag"),
    _number("seq"),
    _number("time_ms"),
    _text("event"),
    _text("detail"),
    PrimaryKeyConstraint("device_id", "tag"),
    sqlite_with_rowid=False,
)
