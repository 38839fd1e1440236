"""Imported object models are kept the same in every store."""

import pytest

from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import ModelHead, NewModel

from .builders import NOW_MS

pytestmark = pytest.mark.anyio


def new(object_id: int = 30000, version: str = "1.0", tenant: str = "", source: bytes = b"<LWM2M/>") -> NewModel:
    return NewModel(tenant, object_id, version, f"Object {object_id}", f"{object_id}.xml", source)


async def test_a_model_is_read_back_as_it_was_put(store: DecidingStore) -> None:
    source = "<LWM2M>\u00b5</LWM2M>".encode()
    await store.put_object_models([new(source=source)], NOW_MS)
    (head,) = await store.object_models()
    assert head == ModelHead("", 30000, "1.0", "Object 30000", "30000.xml", len(source), NOW_MS, NOW_MS)
    assert await store.model_source(*head.key) == source
    for absent in (("", 30000, "1.1"), ("", 30001, "1.0"), ("default", 30000, "1.0")):
        assert await store.model_source(*absent) is None


async def test_models_come_by_tenant_object_and_version(store: DecidingStore) -> None:
    keys = [("", 5, "1.2"), ("", 5, "1.10"), ("", 30, "1.0"), ("a", 5, "1.0"), ("b", 1, "2.0")]
    await store.put_object_models([new(each[1], each[2], each[0]) for each in reversed(keys)], NOW_MS)
    assert [each.key for each in await store.object_models()] == keys


async def test_a_replaced_model_is_seen_to_have_changed_even_where_the_clock_stood(store: DecidingStore) -> None:
    await store.put_object_models([new()], NOW_MS)
    for now_ms in (NOW_MS, NOW_MS - 5000):
        (before,) = await store.object_models()
        await store.put_object_models([new(source=b"other")], now_ms)
        (head,) = await store.object_models()
        assert head.modified_ms > before.modified_ms
        assert head.created_ms == NOW_MS
        assert await store.model_source(*head.key) == b"other"


async def test_every_change_has_another_generation(store: DecidingStore) -> None:
    seen = [await store.models_generation()]
    await store.put_object_models([new(), new(30001)], NOW_MS)
    seen.append(await store.models_generation())
    await store.put_object_models([new()], NOW_MS)
    seen.append(await store.models_generation())
    assert await store.remove_object_models([("", 30000, "1.0")]) == 1
    seen.append(await store.models_generation())
    assert len(set(seen)) == 4
    assert await store.remove_object_models([("", 30000, "1.0")]) == 0
    assert await store.models_generation() == seen[-1]


async def test_removed_models_are_gone_and_the_others_stay(store: DecidingStore) -> None:
    await store.put_object_models([new(), new(version="1.1"), new(tenant="a")], NOW_MS)
    assert await store.remove_object_models([("", 30000, "1.0"), ("", 30000, "9.9"), ("", 30000, "1.0")]) == 1
    assert [each.key for each in await store.object_models()] == [("", 30000, "1.1"), ("a", 30000, "1.0")]
