"""Sealed records open to what was sealed, and anything else to nothing."""

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from dtls_values import cids, u8, u48
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.protection import Protection, ProtectionError
from stellwerk.dtls.records import ContentType, Record, encode_record, split_records
from stellwerk.dtls.suites import SUITES, Suite

KEY, IV, MAC_KEY = b"k" * 16, b"salt", b"m" * 32
CID = b"\x01cidcid\x08"
FORMS = [(number, False) for number in SUITES] + [(0x00AE, True)]
NUMBER = 1 << 48 | 7


def protection(number: int, etm: bool = False, early_cid: bool = False) -> Protection:
    suite = SUITES[number]
    if suite.cipher == "cbc":
        return Protection(suite, KEY, b"", MAC_KEY, etm, early_cid)
    return Protection(suite, KEY, IV, early_cid=early_cid)


def aead(suite: Suite) -> AESCCM | AESGCM:
    return AESGCM(KEY) if suite.cipher == "gcm" else AESCCM(KEY, suite.tag_length)


@given(
    st.sampled_from(FORMS),
    u8.filter(bool),
    st.integers(1, 0xFFFF),
    u48,
    st.binary(max_size=300),
    cids,
    st.integers(0, 20),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_sealed_opens(
    form: tuple[int, bool],
    kind: int,
    epoch: int,
    sequence: int,
    plaintext: bytes,
    cid: bytes,
    padding: int,
    early: bool,
) -> None:
    if not cid and kind == ContentType.TLS12_CID:
        return
    sealed = protection(*form, early).seal(kind, epoch, sequence, plaintext, cid=cid, padding=padding)
    (record,) = split_records(sealed, len(cid))
    assert (record.epoch, record.sequence, record.cid) == (epoch, sequence, cid)
    assert record.type == (ContentType.TLS12_CID if cid else kind)
    assert protection(*form, early).open(record) == (kind, plaintext)


@pytest.mark.spec("RFC 5246 6.2.3.3", "RFC 6655 3", "RFC 5288 3")
@pytest.mark.parametrize("number", [n for n in SUITES if SUITES[n].cipher != "cbc"])
def test_the_nonce_is_the_record_number_and_the_header_is_authenticated(number: int) -> None:
    sealed = protection(number).seal(23, 1, 7, b"hello")
    explicit = NUMBER.to_bytes(8, "big")
    aad = explicit + b"\x17\xfe\xfd\x00\x05"
    expected = explicit + aead(SUITES[number]).encrypt(IV + explicit, b"hello", aad)
    assert sealed == encode_record(23, 1, 7, expected)


@pytest.mark.spec("RFC 9146 4", "RFC 9146 5.3")
@pytest.mark.parametrize("number", [n for n in SUITES if SUITES[n].cipher != "cbc"])
def test_with_a_connection_id_the_type_is_inside_and_the_connection_id_authenticated(number: int) -> None:
    sealed = protection(number).seal(23, 1, 7, b"hello", cid=CID, padding=3)
    explicit = NUMBER.to_bytes(8, "big")
    aad = b"\xff" * 8 + b"\x19\x08\x19\xfe\xfd" + explicit + CID + b"\x00\x09"
    expected = explicit + aead(SUITES[number]).encrypt(IV + explicit, b"hello\x17\0\0\0", aad)
    assert sealed == encode_record(25, 1, 7, expected, cid=CID)


def test_under_an_early_code_point_the_additional_data_is_that_of_the_draft() -> None:
    sealed = protection(0xC0A8, early_cid=True).seal(23, 1, 7, b"hello", cid=CID)
    explicit = NUMBER.to_bytes(8, "big")
    aad = explicit + b"\x19\xfe\xfd" + CID + b"\x08\x00\x06"
    expected = explicit + AESCCM(KEY, 8).encrypt(IV + explicit, b"hello\x17", aad)
    assert sealed == encode_record(25, 1, 7, expected, cid=CID)
    with pytest.raises(ProtectionError):
        protection(0xC0A8).open(*split_records(sealed, 8))


@pytest.mark.spec("RFC 7366 2", "RFC 9146 5.2")
@pytest.mark.parametrize("cid", [b"", CID])
def test_encrypt_then_mac_covers_iv_and_ciphertext(cid: bytes) -> None:
    (record,) = split_records(protection(0x00AE, etm=True).seal(23, 1, 7, b"hello", cid=cid), 8)
    covered, mac = record.fragment[:-32], record.fragment[-32:]
    head = NUMBER.to_bytes(8, "big") + b"\x17\xfe\xfd"
    if cid:
        head = b"\xff" * 8 + b"\x19\x08\x19\xfe\xfd" + NUMBER.to_bytes(8, "big") + CID
    assert mac == hmac.digest(MAC_KEY, head + len(covered).to_bytes(2, "big") + covered, "sha256")


@pytest.mark.spec("RFC 5246 6.2.3.2", "RFC 9146 5.1")
@pytest.mark.parametrize("cid", [b"", CID])
def test_mac_then_encrypt_covers_the_content(cid: bytes) -> None:
    (record,) = split_records(protection(0x00AE).seal(23, 1, 7, b"hello", cid=cid), 8)
    cipher = Cipher(AES(KEY), CBC(record.fragment[:16])).decryptor()
    data = cipher.update(record.fragment[16:]) + cipher.finalize()
    content = b"hello\x17" if cid else b"hello"
    head = NUMBER.to_bytes(8, "big") + b"\x17\xfe\xfd"
    if cid:
        head = b"\xff" * 8 + b"\x19\x08\x19\xfe\xfd" + NUMBER.to_bytes(8, "big") + CID
    mac = hmac.digest(MAC_KEY, head + len(content).to_bytes(2, "big") + content, "sha256")
    assert data.startswith(content + mac)


@given(st.sampled_from(FORMS), cids, st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_record_does_not_open(form: tuple[int, bool], cid: bytes, data: st.DataObject) -> None:
    datagram = bytearray(protection(*form).seal(23, 1, 7, b"hello", cid=cid))
    place = data.draw(st.integers(1, len(datagram) - 1).filter(lambda p: p not in (len(cid) + 11, len(cid) + 12)))
    datagram[place] ^= data.draw(st.integers(1, 255))
    (record,) = split_records(bytes(datagram), len(cid))
    # The MAC-then-encrypt IV is authenticated by what it decrypts to.
    with pytest.raises(ProtectionError):
        protection(*form).open(record)


@given(st.sampled_from(FORMS), st.binary(max_size=200), cids, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_open_to_nothing(form: tuple[int, bool], fragment: bytes, cid: bytes, early: bool) -> None:
    record = Record(25 if cid else 23, 0xFEFD, 1, 7, cid, fragment)
    with pytest.raises(ProtectionError):
        protection(*form, early).open(record)


def cbc_record(data: bytes) -> Record:
    """A record that decrypts to ``data``, which is whole blocks."""
    cipher = Cipher(AES(KEY), CBC(bytes(16))).encryptor()
    return Record(23, 0xFEFD, 1, 7, b"", bytes(16) + cipher.update(data) + cipher.finalize())


def mac_of(content: bytes) -> bytes:
    head = NUMBER.to_bytes(8, "big") + b"\x17\xfe\xfd"
    return hmac.digest(MAC_KEY, head + len(content).to_bytes(2, "big") + content, "sha256")


@pytest.mark.spec("RFC 5246 6.2.3.2")
@pytest.mark.parametrize("padding", [11, 11 + 16, 11 + 15 * 16])
def test_cbc_padding_of_any_length_opens(padding: int) -> None:
    record = cbc_record(b"hello" + mac_of(b"hello") + bytes((padding - 1,)) * padding)
    assert protection(0x00AE).open(record) == (23, b"hello")


@pytest.mark.spec("RFC 5246 6.2.3.2")
@pytest.mark.parametrize("place", [0, 1, 5, 9])
def test_cbc_padding_with_one_wrong_byte_does_not_open(place: int) -> None:
    padding = bytearray(b"\x0a" * 11)
    padding[place] ^= 1
    with pytest.raises(ProtectionError):
        protection(0x00AE).open(cbc_record(b"hello" + mac_of(b"hello") + padding))


def test_cbc_padding_longer_than_the_record_does_not_open() -> None:
    with pytest.raises(ProtectionError):
        protection(0x00AE).open(cbc_record(b"\xff" * 64))


@pytest.mark.spec("RFC 7366 2")
@pytest.mark.parametrize(
    ("data", "opens"), [(b"hello" + b"\x0a" * 11, True), (b"hello" + b"\x0a" * 10 + b"\x0b", False)]
)
def test_padding_is_checked_under_encrypt_then_mac_too(data: bytes, opens: bool) -> None:
    fragment = cbc_record(data).fragment
    head = NUMBER.to_bytes(8, "big") + b"\x17\xfe\xfd" + len(fragment).to_bytes(2, "big")
    record = Record(23, 0xFEFD, 1, 7, b"", fragment + hmac.digest(MAC_KEY, head + fragment, "sha256"))
    if opens:
        assert protection(0x00AE, etm=True).open(record) == (23, b"hello")
    else:
        with pytest.raises(ProtectionError):
            protection(0x00AE, etm=True).open(record)


@pytest.mark.parametrize("form", FORMS)
def test_fragments_of_any_short_length_do_not_open(form: tuple[int, bool]) -> None:
    for length in range(100):
        for cid in (b"", CID):
            with pytest.raises(ProtectionError):
                protection(*form).open(Record(23, 0xFEFD, 1, 7, cid, bytes(length)))


def test_cbc_ivs_differ_from_record_to_record() -> None:
    sealing = protection(0x00AE)
    ivs = {sealing.seal(23, 1, sequence, b"same")[13:29] for sequence in range(20)}
    assert len(ivs) == 20


@pytest.mark.spec("RFC 9146 4")
def test_an_inner_plaintext_of_zeros_alone_does_not_open() -> None:
    sealed = protection(0xC0A8).seal(0, 1, 7, b"", cid=CID, padding=4)
    with pytest.raises(ProtectionError):
        protection(0xC0A8).open(*split_records(sealed, 8))


@pytest.mark.spec("RFC 5246 6.2.1")
@pytest.mark.parametrize("cid", [b"", CID])
def test_a_plaintext_longer_than_2_to_14_bytes_does_not_open(cid: bytes) -> None:
    for length, opens in ((1 << 14, True), ((1 << 14) + 1, False)):
        (record,) = split_records(protection(0xC0A8).seal(23, 1, 7, bytes(length), cid=cid), 8)
        if opens:
            assert protection(0xC0A8).open(record) == (23, bytes(length))
        else:
            with pytest.raises(ProtectionError):
                protection(0xC0A8).open(record)


def test_keys_of_other_lengths_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="TLS_PSK_WITH_AES_128_CCM_8"):
        Protection(SUITES[0xC0A8], b"k" * 16, b"")
