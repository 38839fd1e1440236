"""Object definitions as XML: what is tolerated, what is refused, and how it is said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.schema.ddf import MAX_OCTETS, DdfError, NoDefinition, encode_ddf, load_ddf
from stellwerk.lwm2m.schema.model import ObjectModel, Operations, ResourceModel
from stellwerk.lwm2m.value import ResourceType

ITEM = """
<Item ID="1"><Name>Level</Name><Operations>RW</Operations><MultipleInstances>Single</MultipleInstances>
<Mandatory>Mandatory</Mandatory><Type>Integer</Type><RangeEnumeration>0..100</RangeEnumeration><Units>/100</Units>
<Description>any text</Description></Item>"""

OBJECT = """<Object ObjectType="MODefinition"><Name>Tank</Name><Description1>text</Description1>
<ObjectID>30000</ObjectID><ObjectURN>urn:oma:lwm2m:x:30000:1.2</ObjectURN><LWM2MVersion>1.1</LWM2MVersion>
<ObjectVersion>1.2</ObjectVersion><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory>
<Resources>ITEMS</Resources><Description2></Description2></Object>"""


RESOURCES = "LWM2M/Object 30000/Resources"


def ddf(items: str = ITEM, prefix: str = '<?xml version="1.0" encoding="utf-8"?>\n', objects: int = 1) -> bytes:
    body = "".join(OBJECT.replace("30000", str(30000 + each)) for each in range(objects)).replace("ITEMS", items)
    return f"{prefix}<LWM2M>{body}</LWM2M>".encode()


def refusal(data: bytes) -> DdfError:
    with pytest.raises(DdfError) as refused:
        load_ddf(data)
    return refused.value


@pytest.mark.spec("Core 1.2.2 App. D", "MOD-8")
def test_the_facts_of_a_definition_are_read() -> None:
    (model,) = load_ddf(ddf())
    assert (model.id, model.name, model.version, model.urn) == (30000, "Tank", "1.2", "urn:oma:lwm2m:x:30000:1.2")
    assert (model.multiple, model.mandatory) == (True, False)
    resource = model.resources[1]
    assert (resource.name, resource.operations, resource.type) == (
        "Level",
        Operations.READ | Operations.WRITE,
        ResourceType.INTEGER,
    )
    assert (resource.multiple, resource.mandatory, resource.units) == (False, True, "/100")
    assert resource.range is not None
    assert not resource.range.admits(101)


@pytest.mark.spec("MOD-8")
def test_a_missing_or_empty_version_is_1_0() -> None:
    for replacement in (b"", b"<ObjectVersion></ObjectVersion>"):
        (model,) = load_ddf(ddf().replace(b"<ObjectVersion>1.2</ObjectVersion>", replacement))
        assert model.version == "1.0"


def test_a_version_has_one_spelling() -> None:
    assert load_ddf(ddf().replace(b"<ObjectVersion>1.2<", b"<ObjectVersion> 01.02 <"))[0].version == "1.2"


def test_a_missing_enabler_version_is_fine() -> None:
    assert load_ddf(ddf().replace(b"<LWM2MVersion>1.1</LWM2MVersion>", b"")) == load_ddf(ddf())


@pytest.mark.spec("LwM2M-contract 9", "MOD-8")
def test_a_resource_without_operations_is_for_bootstrap_servers_alone() -> None:
    for empty in ("<Operations></Operations>", "<Operations/>", ""):
        resource = load_ddf(ddf(ITEM.replace("<Operations>RW</Operations>", empty)))[0].resources[1]
        assert resource.operations is Operations.NONE


@pytest.mark.parametrize("kind", list(ResourceType))
def test_every_type_is_known_however_its_letters_are_written(kind: ResourceType) -> None:
    for word in (kind.value, kind.value.lower(), kind.value.upper()):
        assert load_ddf(ddf(ITEM.replace("<Type>Integer", f"<Type>{word}")))[0].resources[1].type is kind


@pytest.mark.spec("MOD-9")
def test_a_file_may_hold_several_objects() -> None:
    assert [each.id for each in load_ddf(ddf(objects=3))] == [30000, 30001, 30002]


@pytest.mark.spec("MOD-9")
@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\n\n ", b"\xef\xbb\xbf\r\n"])
def test_a_byte_order_mark_and_blanks_in_front_are_tolerated(mark: bytes) -> None:
    assert load_ddf(mark + ddf())[0].id == 30000


@pytest.mark.spec("MOD-9")
def test_html_characters_by_name_are_tolerated() -> None:
    items = ITEM.replace("any text", "20&nbsp;&deg;C &auml;").replace("Level", "R&amp;D &micro;Level &lt;")
    assert load_ddf(ddf(items))[0].resources[1].name == "R&D µLevel <"


def test_utf_16_is_read_and_other_encodings_are_refused() -> None:
    text = ddf(prefix='<?xml version="1.0" encoding="utf-16"?>').decode()
    assert load_ddf(text.encode("utf-16"))[0].name == "Tank"
    error = refusal(ddf(prefix='<?xml version="1.0" encoding="utf-7"?>'))
    assert "encoding" in error.rule


def test_blanks_inside_names_are_one() -> None:
    assert load_ddf(ddf(ITEM.replace("Level", "\n  Fill \t Level ")))[0].resources[1].name == "Fill Level"


def test_labelled_ranges_keep_their_lines() -> None:
    resource = load_ddf(ddf(ITEM.replace("0..100", "\n 0: off\n\t 1:  on\n")))[0].resources[1]
    assert resource.range_text == "0: off\n1: on"
    assert str(resource.range) == "0 or 1"


@pytest.mark.spec("MOD-9")
def test_free_text_ranges_are_kept_and_not_checked() -> None:
    resource = load_ddf(ddf(ITEM.replace("0..100", "8-Bits")))[0].resources[1]
    assert (resource.range_text, resource.range) == ("8-Bits", None)


@pytest.mark.parametrize(
    ("old", "new", "element", "rule"),
    [
        ('ID="1"', "", RESOURCES + "/Item", "a resource has the attribute ID"),
        ('ID="1"', 'ID="65535"', RESOURCES + "/Item 65535", "'65535' is not an identifier in 0..65534"),
        ('ID="1"', 'ID="-1"', RESOURCES + "/Item -1", "'-1' is not an identifier"),
        ("<Name>Level</Name>", "", RESOURCES + "/Item 1", "Name is missing or empty"),
        ("<Type>Integer", "<Type>Number", RESOURCES + "/Item 1/Type", "'Number' is not a data type"),
        (">RW<", ">RX<", RESOURCES + "/Item 1/Operations", "'RX' is not made of R, W and E"),
        (
            ">Single<",
            ">Some<",
            RESOURCES + "/Item 1/MultipleInstances",
            "'Some' is neither Single nor Multiple",
        ),
        (
            "<Units>",
            "<Units>a</Units><Units>",
            RESOURCES + "/Item 1/Units",
            "Units occurs more than once",
        ),
    ],
)
def test_a_broken_resource_is_named_with_the_rule(old: str, new: str, element: str, rule: str) -> None:
    assert old in ITEM
    error = refusal(ddf(ITEM.replace(old, new)))
    assert error.element == element
    assert rule in error.rule
    assert str(error).startswith(f"line {error.line}, column {error.column}, {element}: ")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("MODefinition", "CommonResources", "ObjectType is 'CommonResources', a definition has MODefinition"),
        ("<ObjectID>30000</ObjectID>", "", "ObjectID is missing"),
        ("<ObjectID>30000</ObjectID>", "<ObjectID>x</ObjectID>", "'x' is not an identifier in 0..65534"),
        ("<ObjectVersion>1.2<", "<ObjectVersion>1<", "'1' is not major.minor"),
        ("<ObjectVersion>1.2<", "<ObjectVersion>1.2.3<", "'1.2.3' is not major.minor"),
        ("<LWM2MVersion>1.1<", "<LWM2MVersion>one<", "'one' is not major.minor"),
        ("<Resources>", "<Resources/><Resources>", "Resources occurs more than once"),
        ("<MultipleInstances>Multiple</MultipleInstances>", "", "MultipleInstances is missing"),
        ("<Mandatory>Optional<", "<Mandatory>maybe<", "'maybe' is neither Optional nor Mandatory"),
        ("<LWM2M>", "<LWM2M><Object/>", "ObjectType is ''"),
    ],
)
def test_a_broken_object_is_refused_as_a_whole(old: str, new: str, rule: str) -> None:
    text = ddf().decode()
    assert old in text
    assert rule in refusal(text.replace(old, new).encode()).rule


def test_a_resource_is_defined_once() -> None:
    error = refusal(ddf(ITEM + ITEM))
    assert error.rule == "resource 1 is defined twice"
    assert error.line > 6


def test_an_object_is_defined_once_in_a_version() -> None:
    assert refusal(ddf(objects=2).replace(b"30001", b"30000")).rule == "object 30000 version 1.2 is defined twice"
    assert len(load_ddf(ddf(objects=2).replace(b"<ObjectID>30001", b"<ObjectID>30000").replace(b">1.2<", b">1.3<", 1)))


REUSABLE = '<LWM2M><Object ObjectType="CommonResources"/></LWM2M>'


@pytest.mark.parametrize("document", ["<DDFList/>", "<units/>", REUSABLE])
def test_what_registries_keep_beside_definitions_is_told_from_broken_files(document: str) -> None:
    assert isinstance(refusal(document.encode()), NoDefinition)


@pytest.mark.parametrize("document", ["<List/>", "<LWM2M/>", REUSABLE.replace("Common", "")])
def test_a_broken_file_is_no_other_kind_of_file(document: str) -> None:
    assert not isinstance(refusal(document.encode()), NoDefinition)


MALFORMED = [
    "<LWM2M", "<LWM2M>", "<LWM2M></lwm2m>", "<LWM2M/><LWM2M/>", "<LWM2M/>text", "text<LWM2M/>", "<LWM2M a='1' a='2'/>",
    "<LWM2M a=1/>", "<LWM2M a='<'/>", "<LWM2M>&lt</LWM2M>", "<LWM2M>&#xD800;</LWM2M>", "<LWM2M>&#0;</LWM2M>",
    "<LWM2M>\x01</LWM2M>", "<LWM2M>]]></LWM2M>", "<LWM2M><!-- -- --></LWM2M>", "<LWM2M><![CDATA[</LWM2M>",
    "<LWM2M><?xml version='1.0'?></LWM2M>", "<?xml version='1.0' encoding=''?><LWM2M/>",
    "<1/>", "< LWM2M/>", "<LWM2M><a></LWM2M></a>", "<LWM2M xmlns:x='http://www.w3.org/XML/1998/namespace' x:y:z=''",
]  # fmt: skip


@pytest.mark.parametrize("document", MALFORMED)
def test_what_is_no_xml_is_refused_with_its_place(document: str) -> None:
    error = refusal(document.encode("utf-8", "surrogatepass"))
    assert "not well-formed XML" in error.rule
    assert error.line == 1


@pytest.mark.parametrize(
    "data", [b"\xff\xfe<", b"<a>\xc3\x28</a>", b"\x00", b"\x1f\x8b\x08", b"PK\x03\x04", b"<a>\xed\xa0\x80"]
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    assert "not well-formed XML" in refusal(data).rule


def test_lines_are_counted_from_the_start_of_the_file() -> None:
    wrong = ddf(ITEM.replace(">RW<", ">X<"))
    assert refusal(b"\n\n" + wrong).line == refusal(wrong).line + 2


def test_other_documents_are_no_definitions() -> None:
    assert "the outermost element of a definition is LWM2M" in refusal(b"<DDFList/>").rule
    assert refusal(b"<LWM2M/>").rule == "a definition has at least one Object"
    assert "no element" in refusal(b"").rule


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<LWM2M><Object ObjectType="&b;"/></LWM2M>"""


@pytest.mark.spec("MOD-9")
@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        '<!DOCTYPE LWM2M SYSTEM "http://127.0.0.1/x.dtd"><LWM2M/>',
        '<!DOCTYPE LWM2M [<!ENTITY x SYSTEM "file:///etc/passwd">]><LWM2M>&x;</LWM2M>',
        '<!DOCTYPE LWM2M [<!ENTITY % p SYSTEM "http://127.0.0.1/p"> %p;]><LWM2M/>',
        "<!DOCTYPE LWM2M><LWM2M/>",
    ],
)
def test_document_types_and_their_entities_are_refused_unread(document: str) -> None:
    assert refusal(document.encode()).rule == "a document type (DTD) is not allowed"
    assert refusal(document.encode("utf-16")).rule == "a document type (DTD) is not allowed"


def test_an_entity_that_nobody_defined_is_refused() -> None:
    assert "undefined entity" in refusal(b"<LWM2M>&boom;</LWM2M>").rule


def test_size_and_depth_are_bounded() -> None:
    assert f"more than {MAX_OCTETS}" in refusal(b" " * (MAX_OCTETS + 1)).rule
    assert "more than 50000 elements" in refusal(b"<LWM2M>" + b"<a/>" * 60_000).rule
    assert "nested more than 16 deep" in refusal(b"<a>" * 10_000).rule
    assert "Name is longer than 512" in refusal(ddf(ITEM.replace("Level", "x" * 600))).rule


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    refusal(data)


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, 2000), length=st.integers(0, 40), piece=st.binary(max_size=6) | st.sampled_from([
    b"<Item ID='1'>", b"</Resources>", b"&#0;", b"&lt;", b"<![CDATA[", b"<!--", b"<?x ?>", b"\xff", b"encoding='cp037'"
]))  # fmt: skip
def test_a_damaged_definition_is_understood_or_refused(cut: int, length: int, piece: bytes) -> None:
    whole = ddf(objects=2)
    cut %= len(whole)
    try:
        models = load_ddf(whole[:cut] + piece + whole[cut + length :])
    except DdfError:
        return
    assert models


@settings(max_examples=100, deadline=None)
@given(encoding=st.sampled_from(["latin-1", "cp037", "rot13", "idna", "utf-32", "hex", "punycode", "shift_jis", "x"]))
def test_any_stated_encoding_is_read_or_refused(encoding: str) -> None:
    try:
        models = load_ddf(ddf(prefix=f'<?xml version="1.0" encoding="{encoding}"?>'))
    except DdfError:
        return
    assert models[0].name == "Tank"


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
identifiers = st.integers(0, 65534)
resources = st.builds(
    ResourceModel.define,
    identifiers,
    words,
    st.sampled_from(["", "R", "W", "RW", "E", "RWE"]),
    multiple=st.booleans(),
    mandatory=st.booleans(),
    type=st.sampled_from(ResourceType),
    range_text=st.sampled_from(["", "0..10", "0: off\n1: on", "<7 & more", "16 bytes"]) | words,
    units=st.just("") | words,
)
models = st.builds(
    ObjectModel.define,
    identifiers,
    words,
    st.sampled_from(["1.0", "1.1", "2.10", "99999.99999"]),
    st.lists(resources, max_size=5, unique_by=lambda each: each.id),
    multiple=st.booleans(),
    mandatory=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(model=models)
def test_what_is_written_of_any_model_reads_as_the_same_model(model: ObjectModel) -> None:
    assert load_ddf(encode_ddf(model)) == [model]
