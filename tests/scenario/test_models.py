"""Object models while devices live: which one counts, what the device's log says, and what an import changes."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.live_models import LiveModels
from stellwerk.app.records import NewModel
from stellwerk.coap import codes
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel
from stellwerk.lwm2m.value import ResourceType
from tests.scenario.stack import Stack, con

TANK = Path(30000, 0, 1)


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(library=Library.builtin().with_models())
    yield made
    made.close()


class World:
    """A stack whose server follows imported models."""

    def __init__(self, stack: Stack) -> None:
        assert stack.store is not None
        self.stack, self.store = stack, stack.store
        self.live = LiveModels(store=self.store, library=stack.library, clock=stack.clock)
        stack.run(self.live.load())
        self.mid = 0

    def put(self, version: str = "1.0", tenant: str = "", kind: ResourceType = ResourceType.INTEGER) -> None:
        resource = ResourceModel.define(1, "Level", "RW", multiple=False, mandatory=True, type=kind)
        model = ObjectModel.define(30000, "Tank", version, [resource], multiple=True, mandatory=False)
        new = NewModel(tenant, 30000, version, "Tank", "30000.xml", encode_ddf(model))
        self.stack.run(self.store.put_object_models([new], self.stack.clock.wall_ms()))

    def look(self) -> bool:
        changed: bool = self.stack.run(self.live.look())
        return changed

    def say(self, target: str, payload: bytes, content_format: int = 40) -> Any:
        self.mid += 1
        self.stack << con(codes.POST, target, mid=self.mid, payload=payload, content_format=content_format)
        return self.stack.take()

    def register(self, links: bytes = b"</1/0>,</3/0>,</30000/0>", release: str = "1.1") -> str:
        answer = self.say(f"/rd?ep=dev1&lwm2m={release}&lt=300", links)
        assert answer.code == codes.CREATED
        return "/" + "/".join(value.decode() for number, value in answer.options if number == 8)

    def send(self, payload: bytes) -> int:
        code: int = self.say("/dp", payload, 110).code
        return code

    def warnings(self, device: Any) -> list[str]:
        lines = self.stack.run(self.store.projection.device_log(device.device_id, 100))
        return [each.detail for each in reversed(lines) if each.event == "model-warning"]

    def kind(self, device: Any) -> ResourceType | None:
        known = self.stack.registry.of(device.device_id)
        assert known is not None
        return known.registration.types.resource_type(TANK)


TEXT = b'[{"n":"/30000/0/1","vs":"half"}]'
NUMBER = b'[{"n":"/30000/0/1","v":50}]'
NO_MODEL = "object 30000: no model of version 1.0, values keep their format's types"


@pytest.mark.spec("LwM2M-contract 9")
def test_a_live_device_is_understood_by_what_is_imported_and_again_without_once_it_is_removed(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    world.register()
    assert world.send(TEXT) == codes.CHANGED
    world.put()
    assert world.look()
    assert world.kind(device) is ResourceType.INTEGER
    assert world.send(TEXT) == codes.BAD_REQUEST
    assert world.send(NUMBER) == codes.CHANGED
    world.put(kind=ResourceType.STRING)
    assert world.look()
    assert world.send(NUMBER) == codes.BAD_REQUEST
    stack.run(world.store.remove_object_models([("", 30000, "1.0")]))
    assert world.look()
    assert world.kind(device) is None
    assert world.send(TEXT) == codes.CHANGED
    assert stack.values(device, "/30000/0/1") == ['"half"', "50", '"half"']


def test_a_look_without_a_change_does_nothing(stack: Stack) -> None:
    world = World(stack)
    world.put()
    assert world.look()
    before = stack.library.get(30000, "1.0")
    assert not world.look()
    assert stack.library.get(30000, "1.0") is before


def test_a_tenants_model_is_for_its_own_devices(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    world.register()
    world.put(tenant="other", kind=ResourceType.STRING)
    assert world.look()
    assert world.kind(device) is None
    world.put(tenant="default")
    assert world.look()
    assert world.kind(device) is ResourceType.INTEGER


def test_a_tenants_model_counts_for_a_device_that_provisions_itself_from_the_start() -> None:
    stack = Stack(library=Library.builtin().with_models(), auto_provision=("dev*",))
    world = World(stack)
    world.put(tenant="default")
    assert world.look()
    world.register()
    (known,) = stack.registry
    assert known.registration.types.resource_type(TANK) is ResourceType.INTEGER
    assert stack.run(world.store.registration_of(known.record.device_id)).types is known.registration.types
    stack.close()


@pytest.mark.spec("LwM2M-contract 9", "MOD-6")
def test_a_fall_back_is_said_once_however_often_the_device_registers(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    for _ in range(5):
        location = world.register()
        assert world.say(location, b"</1/0>,</3/0>,</30000/0>").code == codes.CHANGED
        stack << con(codes.DELETE, location, mid=1000 + world.mid)
        assert stack.take().code == codes.DELETED
    assert world.warnings(device) == [NO_MODEL]


@pytest.mark.spec("LwM2M-contract 9")
def test_another_version_is_another_warning_and_what_was_mended_may_be_said_again(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    world.register()
    world.register(b"</1/0>,</3/0>,</30000/0>;ver=1.4")
    world.put("1.0")
    world.look()
    world.register(b"</1/0>,</3/0>,</30000/0>;ver=1.4")
    world.register()
    world.register(b"</1/0>,</3/0>,</30000/0>;ver=1.4")
    assert world.warnings(device) == [
        NO_MODEL,
        NO_MODEL.replace("1.0", "1.4"),
        "object 30000: wanted 1.4, using 1.0",
        "object 30000: wanted 1.4, using 1.0",
    ]


@pytest.mark.spec("LwM2M-contract 9", "R-13")
def test_an_object_that_an_update_brings_is_warned_of_too(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    location = world.register(b"</1/0>,</3/0>")
    assert world.say(location, b"").code == codes.CHANGED
    assert world.warnings(device) == []
    for _ in range(2):
        assert world.say(location, b"</1/0>,</3/0>,</30000/0>").code == codes.CHANGED
    assert world.warnings(device) == [NO_MODEL]


@pytest.mark.spec("READ-13", "D-4", "MOD-4")
def test_firmware_without_version_from_a_1_2_client_is_1_1_and_may_have_more(stack: Stack) -> None:
    world = World(stack)
    device = stack.provision("dev1")
    world.register(b"</1/0>,</3/0>,</5/0>", "1.2")
    known = stack.registry.of(device.device_id)
    assert known is not None
    model = known.registration.types.object(5)
    assert model is not None
    assert model.version == "1.1"
    more = max(model.resources) + 1
    assert world.send(b'[{"bn":"/5/0/","n":"3","v":0},{"n":"%d","v":7}]' % more) == codes.CHANGED
    assert stack.values(device, f"/5/0/{more}") == ["7"]
    assert world.warnings(device) == []
