/* See secure.h. */
#include "secure.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGE_CIPHER_SPEC = 20, ALERT, HANDSHAKE, APPLICATION_DATA, WITH_CID = 25 };
enum { CLIENT_HELLO = 1, SERVER_HELLO, HELLO_VERIFY_REQUEST, CERTIFICATE = 11, SERVER_KEY_EXCHANGE, SERVER_HELLO_DONE = 14,
       CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED = 20 };
enum { SERVER_NAME, GROUPS = 10, POINT_FORMATS = 11, SIGNATURES = 13, CLIENT_TYPE = 19, SERVER_TYPE = 20, EXTENDED_MASTER = 23,
       CONNECTION_ID = 54 };
enum { IDLE, GREETING, WAITING, FINISHING, ESTABLISHED };
enum { LARGEST = 2048, TAG = 8, LONGEST_CID = 20, LONGEST_COOKIE = 255, POINT = 65 };
#define VERSION 0xfefd

static enum credentials mode;
static bool wants_cid;
static secure_leave leave;
static EVP_CIPHER_CTX *sealing, *opening;
static EC_GROUP *group;
static uint8_t *certificate_file;
static const uint8_t **certificates;
static uint32_t *certificate_lengths;
static int certificate_count;

long secure_handshakes, secure_numbers_again;

struct secure {
    int state;
    const char *name;
    EC_KEY *key; /* its own, for raw public keys and certificates */
    const uint8_t *certificate;
    uint32_t certificate_length;
    uint8_t psk[16];
    uint8_t client_random[32], server_random[32], cookie[LONGEST_COOKIE], cookie_length;
    uint8_t cid[LONGEST_CID], cid_length;
    uint8_t server_point[POINT], verify_data[12];
    EC_KEY *ephemeral;
    bool extended, asked_certificate, ccs_seen;
    uint8_t master[48], write_key[16], read_key[16], write_iv[4], read_iv[4];
    SHA256_CTX transcript;
    uint16_t next_in, next_out; /* message sequence numbers */
    uint64_t sequence[2];       /* of the next record, by epoch */
    uint64_t least_read;        /* what the next number of the server's has to reach */
    uint8_t *partial;           /* a message that comes in parts */
    uint32_t partial_length;
    uint8_t *flight; /* ClientKeyExchange and what goes with it, as handshake messages, for repetition */
    int flight_length;
};

static void die(const char *why) {
    fprintf(stderr, "load: %s\n", why);
    exit(2);
}

/* -- SHA-256, HMAC and the PRF (RFC 5246 5) -- */

struct hmac {
    SHA256_CTX inner, outer;
};

static void hmac_begin(struct hmac *h, const uint8_t *key, int length) {
    uint8_t block[64], hashed[32];
    if (length > 64) {
        SHA256(key, (size_t)length, hashed);
        key = hashed;
        length = 32;
    }
    for (int i = 0; i < 64; i++) block[i] = (uint8_t)((i < length ? key[i] : 0) ^ 0x36);
    SHA256_Init(&h->inner);
    SHA256_Update(&h->inner, block, 64);
    for (int i = 0; i < 64; i++) block[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&h->outer);
    SHA256_Update(&h->outer, block, 64);
}

static void hmac_end(const struct hmac *key, SHA256_CTX *inner, uint8_t *into) {
    SHA256_CTX outer = key->outer;
    SHA256_Final(into, inner);
    SHA256_Update(&outer, into, 32);
    SHA256_Final(into, &outer);
}

static void prf(const uint8_t *secret, int secret_length, const char *label, const uint8_t *seed, int seed_length,
                uint8_t *into, int wanted) {
    struct hmac key;
    uint8_t a[32], block[32];
    hmac_begin(&key, secret, secret_length);
    SHA256_CTX inner = key.inner;
    SHA256_Update(&inner, label, strlen(label));
    SHA256_Update(&inner, seed, (size_t)seed_length);
    hmac_end(&key, &inner, a);
    for (int done = 0; done < wanted; done += 32) {
        inner = key.inner;
        SHA256_Update(&inner, a, 32);
        SHA256_Update(&inner, label, strlen(label));
        SHA256_Update(&inner, seed, (size_t)seed_length);
        hmac_end(&key, &inner, block);
        memcpy(into + done, block, (size_t)(wanted - done < 32 ? wanted - done : 32));
        inner = key.inner;
        SHA256_Update(&inner, a, 32);
        hmac_end(&key, &inner, a);
    }
}

static void transcript_hash(const struct secure *s, uint8_t *into) {
    SHA256_CTX copy = s->transcript;
    SHA256_Final(into, &copy);
}

/* -- writing -- */

struct out {
    uint8_t bytes[LARGEST];
    int length;
};

static void put(struct out *o, const void *bytes, int length) {
    if (o->length + length > LARGEST) die("a handshake message that is too large");
    memcpy(o->bytes + o->length, bytes, (size_t)length);
    o->length += length;
}

static void put_number(struct out *o, uint64_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) {
        uint8_t byte = (uint8_t)(value >> shift);
        put(o, &byte, 1);
    }
}

static void set_number(uint8_t *at, uint64_t value, int size) {
    for (int i = size - 1; i >= 0; i--, value >>= 8) at[i] = (uint8_t)value;
}

static uint32_t number(const uint8_t *at, int size) {
    uint32_t value = 0;
    for (int i = 0; i < size; i++) value = value << 8 | at[i];
    return value;
}

/* A handshake message in one fragment; the body is written by the caller between begin and end. */
static int begin_message(struct secure *s, struct out *o, int type) {
    int at = o->length;
    put_number(o, (uint64_t)type, 1);
    put_number(o, 0, 3);
    put_number(o, s->next_out++, 2);
    put_number(o, 0, 6);
    return at;
}

static void end_message(struct secure *s, struct out *o, int at) {
    uint32_t length = (uint32_t)(o->length - at - 12);
    set_number(o->bytes + at + 1, length, 3);
    set_number(o->bytes + at + 9, length, 3);
    SHA256_Update(&s->transcript, o->bytes + at, (size_t)(o->length - at));
}

static void plain_record(struct secure *s, struct out *o, int type, const uint8_t *fragment, int length) {
    put_number(o, (uint64_t)type, 1);
    put_number(o, VERSION, 2);
    put_number(o, s->sequence[0]++, 8);
    put_number(o, (uint64_t)length, 2);
    put(o, fragment, length);
}

static int additional_data(uint8_t *into, int type, uint64_t number_, const uint8_t *cid, int cid_length, int length) {
    if (cid_length == 0) {
        set_number(into, number_, 8);
        into[8] = (uint8_t)type;
        set_number(into + 9, VERSION, 2);
        set_number(into + 11, (uint64_t)length, 2);
        return 13;
    }
    /* RFC 9146 5.3 */
    memset(into, 0xff, 8);
    into[8] = WITH_CID;
    into[9] = (uint8_t)cid_length;
    into[10] = WITH_CID;
    set_number(into + 11, VERSION, 2);
    set_number(into + 13, number_, 8);
    memcpy(into + 21, cid, (size_t)cid_length);
    set_number(into + 21 + cid_length, (uint64_t)length, 2);
    return 23 + cid_length;
}

static void sealed_record(struct secure *s, struct out *o, int type, const uint8_t *plain, int length) {
    uint64_t number_ = 1ull << 48 | s->sequence[1]++;
    uint8_t nonce[12], additional[64], inner[LARGEST];
    int unused;
    memcpy(nonce, s->write_iv, 4);
    set_number(nonce + 4, number_, 8);
    if (s->cid_length) {
        memcpy(inner, plain, (size_t)length);
        inner[length++] = (uint8_t)type;
        plain = inner;
    }
    int additional_length = additional_data(additional, type, number_, s->cid, s->cid_length, length);
    put_number(o, (uint64_t)(s->cid_length ? WITH_CID : type), 1);
    put_number(o, VERSION, 2);
    put_number(o, number_, 8);
    put(o, s->cid, s->cid_length);
    put_number(o, (uint64_t)(8 + length + TAG), 2);
    put_number(o, number_, 8);
    if (o->length + length + TAG > LARGEST) die("a record that is too large");
    EVP_EncryptInit_ex(sealing, NULL, NULL, s->write_key, nonce);
    EVP_EncryptUpdate(sealing, NULL, &unused, NULL, length);
    EVP_EncryptUpdate(sealing, NULL, &unused, additional, additional_length);
    EVP_EncryptUpdate(sealing, o->bytes + o->length, &unused, plain, length);
    EVP_EncryptFinal_ex(sealing, o->bytes + o->length + length, &unused);
    EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_GET_TAG, TAG, o->bytes + o->length + length);
    o->length += length + TAG;
}

/* The length of what a protected record says, written to `into`; -1 where it does not verify. */
static int open_record(struct secure *s, const uint8_t *header, const uint8_t *fragment, int length, uint8_t *into) {
    uint8_t nonce[12], additional[64];
    int unused, plain = length - 8 - TAG;
    if (plain < 0) return -1;
    memcpy(nonce, s->read_iv, 4);
    memcpy(nonce + 4, fragment, 8);
    uint64_t number_ = (uint64_t)number(header + 3, 4) << 32 | number(header + 7, 4);
    int additional_length = additional_data(additional, header[0], number_, NULL, 0, plain);
    EVP_DecryptInit_ex(opening, NULL, NULL, NULL, NULL);
    EVP_CIPHER_CTX_ctrl(opening, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(fragment + 8 + plain));
    EVP_DecryptInit_ex(opening, NULL, NULL, s->read_key, nonce);
    EVP_DecryptUpdate(opening, NULL, &unused, NULL, plain);
    EVP_DecryptUpdate(opening, NULL, &unused, additional, additional_length);
    if (EVP_DecryptUpdate(opening, into, &unused, fragment + 8, plain) <= 0) return -1;
    if (number_ < s->least_read) {
        secure_numbers_again++;
    } else {
        s->least_read = number_ + 1;
    }
    return plain;
}

/* -- our flights -- */

static void put_extension(struct out *o, int type, const char *bytes, int length) {
    put_number(o, (uint64_t)type, 2);
    put_number(o, (uint64_t)length, 2);
    put(o, bytes, length);
}

static void send_hello(struct secure *s, int fd) {
    struct out body = {.length = 0}, out = {.length = 0};
    /* RFC 6347 4.2.1: the first ClientHello and its answer stay out of the transcript. */
    SHA256_Init(&s->transcript);
    s->next_out = s->cookie_length ? 1 : 0;
    s->next_in = s->cookie_length ? 1 : 0;
    int at = begin_message(s, &body, CLIENT_HELLO);
    put_number(&body, VERSION, 2);
    put(&body, s->client_random, 32);
    put_number(&body, 0, 1);
    put_number(&body, s->cookie_length, 1);
    put(&body, s->cookie, s->cookie_length);
    put_number(&body, 4, 2);
    put_number(&body, mode == WITH_PSK ? 0xc0a8 : 0xc0ae, 2);
    put_number(&body, 0x00ff, 2);
    put_number(&body, 0x0100, 2);
    int extensions = body.length;
    put_number(&body, 0, 2);
    put_extension(&body, EXTENDED_MASTER, "", 0);
    /* We take connection IDs, and want none ourselves. */
    if (wants_cid) put_extension(&body, CONNECTION_ID, "\0", 1);
    if (mode != WITH_PSK) {
        put_extension(&body, GROUPS, "\0\2\0\x17", 4);
        put_extension(&body, POINT_FORMATS, "\1\0", 2);
        put_extension(&body, SIGNATURES, "\0\2\4\3", 4);
    }
    if (mode == WITH_RPK) {
        put_extension(&body, CLIENT_TYPE, "\1\2", 2);
        put_extension(&body, SERVER_TYPE, "\1\2", 2);
    }
    set_number(body.bytes + extensions, (uint64_t)(body.length - extensions - 2), 2);
    end_message(s, &body, at);
    plain_record(s, &out, HANDSHAKE, body.bytes, body.length);
    leave(fd, out.bytes, out.length);
}

static void derive_keys(struct secure *s, const uint8_t *premaster, int premaster_length) {
    uint8_t seed[64], hash[32], block[40];
    memcpy(seed, s->client_random, 32);
    memcpy(seed + 32, s->server_random, 32);
    if (s->extended) {
        transcript_hash(s, hash);
        prf(premaster, premaster_length, "extended master secret", hash, 32, s->master, 48);
    } else {
        prf(premaster, premaster_length, "master secret", seed, 64, s->master, 48);
    }
    memcpy(seed, s->server_random, 32);
    memcpy(seed + 32, s->client_random, 32);
    prf(s->master, 48, "key expansion", seed, 64, block, 40);
    memcpy(s->write_key, block, 16);
    memcpy(s->read_key, block + 16, 16);
    memcpy(s->write_iv, block + 32, 4);
    memcpy(s->read_iv, block + 36, 4);
}

static void put_certificate(struct secure *s, struct out *o) {
    int at = begin_message(s, o, CERTIFICATE);
    if (mode == WITH_RPK) {
        uint8_t *spki = NULL;
        int length = i2d_EC_PUBKEY(s->key, &spki);
        put_number(o, (uint64_t)length, 3);
        put(o, spki, length);
        OPENSSL_free(spki);
    } else {
        put_number(o, s->certificate_length + 3, 3);
        put_number(o, s->certificate_length, 3);
        put(o, s->certificate, (int)s->certificate_length);
    }
    end_message(s, o, at);
}

static void send_finishing(struct secure *s, int fd) {
    struct out out = {.length = 0}, finished = {.length = 0};
    put_number(&finished, FINISHED, 1);
    put_number(&finished, 12, 3);
    put_number(&finished, (uint64_t)s->next_out - 1, 2);
    put_number(&finished, 0, 3);
    put_number(&finished, 12, 3);
    put(&finished, s->verify_data, 12);
    plain_record(s, &out, HANDSHAKE, s->flight, s->flight_length);
    plain_record(s, &out, CHANGE_CIPHER_SPEC, (const uint8_t *)"\1", 1);
    sealed_record(s, &out, HANDSHAKE, finished.bytes, finished.length);
    leave(fd, out.bytes, out.length);
}

/* The server has said all: our keys, our proof, and Finished. */
static void answer_server(struct secure *s, int fd) {
    struct out messages = {.length = 0};
    uint8_t premaster[40], hash[32], point[POINT];
    int premaster_length = 36;
    if (s->asked_certificate) put_certificate(s, &messages);
    int at = begin_message(s, &messages, CLIENT_KEY_EXCHANGE);
    if (mode == WITH_PSK) {
        int length = (int)strlen(s->name);
        put_number(&messages, (uint64_t)length, 2);
        put(&messages, s->name, length);
        /* RFC 4279 2 */
        memset(premaster, 0, sizeof premaster);
        premaster[1] = premaster[19] = 16;
        memcpy(premaster + 20, s->psk, 16);
    } else {
        EC_POINT *theirs = EC_POINT_new(group);
        if (EC_POINT_oct2point(group, theirs, s->server_point, POINT, NULL) != 1) die("the server's point is none");
        s->ephemeral = EC_KEY_new();
        EC_KEY_set_group(s->ephemeral, group);
        EC_KEY_generate_key(s->ephemeral);
        EC_POINT_point2oct(group, EC_KEY_get0_public_key(s->ephemeral), POINT_CONVERSION_UNCOMPRESSED, point, POINT, NULL);
        put_number(&messages, POINT, 1);
        put(&messages, point, POINT);
        /* The shared secret is the x coordinate. */
        BIGNUM *x = BN_new();
        EC_POINT_mul(group, theirs, NULL, theirs, EC_KEY_get0_private_key(s->ephemeral), NULL);
        EC_POINT_get_affine_coordinates(group, theirs, x, NULL, NULL);
        BN_bn2binpad(x, premaster, 32);
        premaster_length = 32;
        BN_free(x);
        EC_POINT_free(theirs);
        EC_KEY_free(s->ephemeral);
        s->ephemeral = NULL;
    }
    end_message(s, &messages, at);
    derive_keys(s, premaster, premaster_length);
    if (s->asked_certificate) {
        uint8_t signature[80];
        unsigned int length = sizeof signature;
        transcript_hash(s, hash);
        if (ECDSA_sign(0, hash, 32, signature, &length, s->key) != 1) die("no signature");
        at = begin_message(s, &messages, CERTIFICATE_VERIFY);
        put_number(&messages, 0x0403, 2);
        put_number(&messages, length, 2);
        put(&messages, signature, (int)length);
        end_message(s, &messages, at);
    }
    transcript_hash(s, hash);
    prf(s->master, 48, "client finished", hash, 32, s->verify_data, 12);
    s->flight = realloc(s->flight, (size_t)messages.length);
    memcpy(s->flight, messages.bytes, (size_t)messages.length);
    s->flight_length = messages.length;
    s->state = FINISHING;
    s->sequence[1] = 0;
    struct out finished = {.length = 0};
    at = begin_message(s, &finished, FINISHED);
    put(&finished, s->verify_data, 12);
    end_message(s, &finished, at);
    send_finishing(s, fd);
}

/* -- the server's messages -- */

static void take_extensions(struct secure *s, const uint8_t *at, const uint8_t *end) {
    while (at + 4 <= end) {
        uint32_t type = number(at, 2), length = number(at + 2, 2);
        at += 4;
        if (length > (uint32_t)(end - at)) return;
        if (type == EXTENDED_MASTER) s->extended = true;
        if (type == CONNECTION_ID && length > 0 && at[0] <= LONGEST_CID && at[0] + 1u == length) {
            s->cid_length = at[0];
            memcpy(s->cid, at + 1, at[0]);
        }
        at += length;
    }
}

static void take_message(struct secure *s, int fd, int type, const uint8_t *body, uint32_t length) {
    uint8_t header[12], hash[32], expected[12];
    if (type == HELLO_VERIFY_REQUEST) {
        if (s->state != GREETING || length < 3 || body[2] + 3u > length) return;
        s->cookie_length = body[2];
        memcpy(s->cookie, body + 3, body[2]);
        send_hello(s, fd);
        return;
    }
    if (type == FINISHED) {
        if (!s->ccs_seen) return;
        transcript_hash(s, hash);
        prf(s->master, 48, "server finished", hash, 32, expected, 12);
        if (length == 12 && memcmp(expected, body, 12) == 0) s->state = ESTABLISHED;
        return;
    }
    header[0] = (uint8_t)type;
    set_number(header + 1, length, 3);
    set_number(header + 4, s->next_in - 1u, 2);
    set_number(header + 6, 0, 3);
    set_number(header + 9, length, 3);
    SHA256_Update(&s->transcript, header, 12);
    SHA256_Update(&s->transcript, body, length);
    if (type == SERVER_HELLO && length >= 38) {
        memcpy(s->server_random, body + 2, 32);
        uint32_t skip = 35u + body[34] + 3;
        s->state = WAITING;
        s->extended = s->asked_certificate = s->ccs_seen = false;
        s->cid_length = 0;
        if (length >= skip + 2) take_extensions(s, body + skip + 2, body + length);
    } else if (type == SERVER_KEY_EXCHANGE && mode != WITH_PSK) {
        if (length < 4 + POINT || body[3] != POINT) die("another group than secp256r1");
        memcpy(s->server_point, body + 4, POINT);
    } else if (type == 13) {
        s->asked_certificate = true;
    } else if (type == SERVER_HELLO_DONE && s->state == WAITING) {
        answer_server(s, fd);
    }
}

static void take_handshake(struct secure *s, int fd, const uint8_t *at, int length) {
    while (length >= 12) {
        uint32_t whole = number(at + 1, 3), sequence = number(at + 4, 2), offset = number(at + 6, 3), part = number(at + 9, 3);
        int type = at[0];
        if (part > (uint32_t)length - 12 || whole > 65536 || offset + part > whole) return;
        const uint8_t *body = at + 12;
        at += 12 + part;
        length -= (int)(12 + part);
        if (type == HELLO_VERIFY_REQUEST) sequence = s->next_in;
        /* After a HelloVerifyRequest some servers begin with 0, some with 1. */
        if (type == SERVER_HELLO && s->state == GREETING) s->next_in = (uint16_t)sequence;
        if (sequence != s->next_in) continue;
        if (part != whole) {
            if (offset == 0) {
                s->partial = realloc(s->partial, whole);
                s->partial_length = 0;
            }
            if (offset != s->partial_length || s->partial == NULL) continue;
            memcpy(s->partial + offset, body, part);
            s->partial_length += part;
            if (s->partial_length < whole) continue;
            body = s->partial;
        }
        s->next_in++;
        take_message(s, fd, type, body, whole);
        free(s->partial);
        s->partial = NULL;
        s->partial_length = 0;
        if (type == HELLO_VERIFY_REQUEST) return;
    }
}

/* -- the face -- */

void secure_start(enum credentials credentials, bool with_cid, const char *file, int first, secure_leave how) {
    mode = credentials;
    wants_cid = with_cid;
    leave = how;
    group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    sealing = EVP_CIPHER_CTX_new();
    opening = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(sealing, EVP_aes_128_ccm(), NULL, NULL, NULL);
    EVP_DecryptInit_ex(opening, EVP_aes_128_ccm(), NULL, NULL, NULL);
    EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL);
    EVP_CIPHER_CTX_ctrl(opening, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL);
    EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_SET_TAG, TAG, NULL);
    if (credentials != WITH_X509) return;
    FILE *from = fopen(file, "rb");
    if (from == NULL) die("the file with certificates is not there");
    fseek(from, 0, SEEK_END);
    long size = ftell(from);
    rewind(from);
    certificate_file = malloc((size_t)size + 1);
    if (fread(certificate_file, 1, (size_t)size, from) != (size_t)size) die("the file with certificates cannot be read");
    fclose(from);
    for (long at = 0; at + 4 <= size; at += 4 + number(certificate_file + at, 4)) certificate_count++;
    certificates = calloc((size_t)certificate_count + 1, sizeof *certificates);
    certificate_lengths = calloc((size_t)certificate_count + 1, sizeof *certificate_lengths);
    int index = -first;
    for (long at = 0; at + 4 <= size; at += 4 + number(certificate_file + at, 4), index++) {
        if (index < 0) continue;
        certificate_lengths[index] = number(certificate_file + at, 4);
        certificates[index] = certificate_file + at + 4;
    }
    certificate_count -= first;
}

struct secure *secure_new(const char *name, int index) {
    uint8_t digest[32];
    char text[128];
    struct secure *s = calloc(1, sizeof *s);
    s->name = strdup(name);
    int length = snprintf(text, sizeof text, "psk %s", name);
    SHA256((const uint8_t *)text, (size_t)length, digest);
    memcpy(s->psk, digest, 16);
    if (mode == WITH_PSK) return s;
    length = snprintf(text, sizeof text, "key %s", name);
    SHA256((const uint8_t *)text, (size_t)length, digest);
    BIGNUM *secret = BN_bin2bn(digest, 32, NULL);
    EC_POINT *point = EC_POINT_new(group);
    s->key = EC_KEY_new();
    EC_KEY_set_group(s->key, group);
    EC_KEY_set_asn1_flag(s->key, OPENSSL_EC_NAMED_CURVE);
    EC_POINT_mul(group, point, secret, NULL, NULL, NULL);
    if (EC_KEY_set_private_key(s->key, secret) != 1 || EC_KEY_set_public_key(s->key, point) != 1) die("no key");
    EC_POINT_free(point);
    BN_free(secret);
    if (mode != WITH_X509) return s;
    if (index >= certificate_count) die("fewer certificates than devices");
    s->certificate = certificates[index];
    s->certificate_length = certificate_lengths[index];
    return s;
}

void secure_connect(struct secure *s, int fd) {
    s->state = GREETING;
    s->cookie_length = s->cid_length = 0;
    s->sequence[0] = s->sequence[1] = s->least_read = 0;
    secure_handshakes++;
    RAND_bytes(s->client_random, 32);
    send_hello(s, fd);
}

void secure_repeat(struct secure *s, int fd) {
    if (s->state == GREETING || s->state == WAITING) {
        /* From the beginning, with what is known: half a flight of the server's is of no use. */
        s->state = GREETING;
        send_hello(s, fd);
    } else if (s->state == FINISHING) {
        send_finishing(s, fd);
    } else {
        secure_connect(s, fd);
    }
}

void secure_forget(struct secure *s) { s->state = IDLE; }

bool secure_is_established(const struct secure *s) { return s->state == ESTABLISHED; }

void secure_send(struct secure *s, int fd, const uint8_t *bytes, int length) {
    struct out out = {.length = 0};
    if (s->state != ESTABLISHED) return;
    sealed_record(s, &out, APPLICATION_DATA, bytes, length);
    leave(fd, out.bytes, out.length);
}

int secure_receive(struct secure *s, int fd, uint8_t *bytes, int length) {
    uint8_t opened[LARGEST], *header = bytes;
    int found = 0;
    while (length >= 13) {
        int fragment_length = (int)number(header + 11, 2), type = header[0], epoch = (int)number(header + 3, 2);
        uint8_t *fragment = header + 13, *record = header;
        if (fragment_length > length - 13) break;
        header += 13 + fragment_length;
        length -= 13 + fragment_length;
        if (epoch == 0) {
            if (s->state == ESTABLISHED || s->state == IDLE) continue;
            if (type == HANDSHAKE) take_handshake(s, fd, fragment, fragment_length);
            if (type == CHANGE_CIPHER_SPEC && s->state == FINISHING) s->ccs_seen = true;
            if (type == ALERT && fragment_length == 2 && fragment[0] == 2) {
                fprintf(stderr, "load: %s: alert %d in the handshake\n", s->name, fragment[1]);
                s->state = IDLE;
                return -1;
            }
            continue;
        }
        if (s->state < FINISHING || fragment_length > LARGEST) continue;
        int plain = open_record(s, record, fragment, fragment_length, opened);
        if (plain < 0) continue;
        if (type == HANDSHAKE && s->state == FINISHING) {
            take_handshake(s, fd, opened, plain);
        } else if (type == ALERT) {
            s->state = IDLE;
            return -1;
        } else if (type == APPLICATION_DATA && s->state == ESTABLISHED && found == 0) {
            /* What it says is no longer than its record, so nothing that is still to be read is overwritten. */
            memcpy(bytes, opened, (size_t)plain);
            found = plain;
        }
    }
    return found;
}
