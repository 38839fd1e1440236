/* See oscore.h. */
#include "oscore.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 2048, KEY = 16, NONCE = 13, TAG = 8, LONGEST_ID = NONCE - 6, LONGEST_PIV = 5, LONGEST_ECHO = 40 };
enum { OSCORE = 9, ECHO = 252 };
enum { POST = 0x02, LAST_METHOD = 0x1f, CHANGED = 0x44, UNAUTHORIZED = 0x81 };
enum { PIV_LENGTH = 0x07, HAS_KID = 0x08, HAS_KID_CONTEXT = 0x10 };

struct id {
    uint8_t bytes[LONGEST_ID];
    int length;
};

struct piv {
    uint8_t bytes[LONGEST_PIV];
    int length;
};

struct oscore {
    struct id ours, theirs;
    uint8_t write_key[KEY], read_key[KEY], iv[NONCE];
    uint64_t number;        /* of our next request */
    struct piv asked, told; /* of our last request, and of theirs */
    uint8_t echo[LONGEST_ECHO];
    int echo_length;
};

static EVP_CIPHER_CTX *sealing, *opening;

static void die(const char *why) {
    fprintf(stderr, "load: oscore: %s\n", why);
    exit(2);
}

/* -- keys (RFC 8613 3.2.1) -- */

static void derive(const uint8_t *secret, const struct id *of, const char *kind, int length, uint8_t *into) {
    static const uint8_t no_salt[32];
    uint8_t prk[32], block[32], info[64];
    int at = 0, kind_length = (int)strlen(kind);
    info[at++] = 0x85;
    info[at++] = (uint8_t)(0x40 | of->length);
    memcpy(info + at, of->bytes, (size_t)of->length);
    at += of->length;
    info[at++] = 0xf6; /* no ID Context */
    info[at++] = 10;   /* AES-CCM-16-64-128 */
    info[at++] = (uint8_t)(0x60 | kind_length);
    memcpy(info + at, kind, (size_t)kind_length);
    at += kind_length;
    info[at++] = (uint8_t)length;
    info[at++] = 1; /* HKDF: the first block */
    HMAC(EVP_sha256(), no_salt, sizeof no_salt, secret, KEY, prk, NULL);
    HMAC(EVP_sha256(), prk, sizeof prk, info, (size_t)at, block, NULL);
    memcpy(into, block, (size_t)length);
}

static EVP_CIPHER_CTX *cipher(bool seals) {
    EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
    if (made == NULL || !EVP_CipherInit_ex(made, EVP_aes_128_ccm(), NULL, NULL, NULL, seals)) die("no AES-128-CCM");
    EVP_CIPHER_CTX_ctrl(made, EVP_CTRL_AEAD_SET_IVLEN, NONCE, NULL);
    EVP_CIPHER_CTX_ctrl(made, EVP_CTRL_AEAD_SET_TAG, TAG, NULL);
    return made;
}

struct oscore *oscore_new(const char *name, uint32_t number, int unused) {
    struct oscore *c = calloc(1, sizeof *c);
    uint8_t secret[SHA256_DIGEST_LENGTH];
    char text[128];
    if (c == NULL) die("no memory");
    if (sealing == NULL) {
        sealing = cipher(true);
        opening = cipher(false);
    }
    int length = snprintf(text, sizeof text, "oscore %s", name);
    SHA256((const uint8_t *)text, (size_t)length, secret);
    for (int i = 0; i < 4; i++) c->ours.bytes[i] = (uint8_t)(number >> (24 - 8 * i));
    c->ours.length = 4;
    c->theirs.bytes[0] = 's';
    c->theirs.length = 1;
    struct id nobody = {.length = 0};
    derive(secret, &c->ours, "Key", KEY, c->write_key);
    derive(secret, &c->theirs, "Key", KEY, c->read_key);
    derive(secret, &nobody, "IV", NONCE, c->iv);
    c->number = (uint64_t)unused;
    return c;
}

/* -- nonces and associated data (RFC 8613 5.2, 5.4) -- */

static void make_nonce(const struct oscore *c, const struct id *of, const struct piv *piv, uint8_t *into) {
    memcpy(into, c->iv, NONCE);
    into[0] ^= (uint8_t)of->length;
    for (int i = 0; i < of->length; i++) into[1 + LONGEST_ID - of->length + i] ^= of->bytes[i];
    for (int i = 0; i < piv->length; i++) into[NONCE - piv->length + i] ^= piv->bytes[i];
}

static int additional_data(const struct id *kid, const struct piv *piv, uint8_t *into) {
    static const uint8_t head[] = {0x83, 0x68, 'E', 'n', 'c', 'r', 'y', 'p', 't', '0', 0x40};
    int at = sizeof head, inner = 7 + kid->length + piv->length;
    memcpy(into, head, sizeof head);
    into[at++] = (uint8_t)(0x40 | inner);
    into[at++] = 0x85;
    into[at++] = 1;
    into[at++] = 0x81;
    into[at++] = 10;
    into[at++] = (uint8_t)(0x40 | kid->length);
    memcpy(into + at, kid->bytes, (size_t)kid->length);
    at += kid->length;
    into[at++] = (uint8_t)(0x40 | piv->length);
    memcpy(into + at, piv->bytes, (size_t)piv->length);
    at += piv->length;
    into[at++] = 0x40;
    return at;
}

static void set_piv(struct piv *piv, uint64_t number) {
    piv->length = 1;
    while (piv->length < LONGEST_PIV && number >> 8 * piv->length) piv->length++;
    for (int i = 0; i < piv->length; i++) piv->bytes[i] = (uint8_t)(number >> 8 * (piv->length - 1 - i));
}

/* -- options: one pass over them -- */

struct option {
    int number, length;
    const uint8_t *value;
};

static int extension(const uint8_t **at, const uint8_t *end, int value) {
    if (value == 13 && *at < end) return *(*at)++ + 13;
    if (value == 14 && end - *at >= 2) {
        *at += 2;
        return ((*at)[-2] << 8 | (*at)[-1]) + 269;
    }
    return value;
}

/* The option at `*at`, which moves behind it; false where there is none any more. */
static bool next_option(const uint8_t **at, const uint8_t *end, struct option *found) {
    if (*at >= end || **at == 0xff) return false;
    int head = *(*at)++;
    found->number += extension(at, end, head >> 4);
    found->length = extension(at, end, head & 15);
    if (found->length > end - *at) return false;
    found->value = *at;
    *at += found->length;
    return true;
}

/* -- out -- */

int oscore_seal(struct oscore *c, uint8_t *message, int length, int room) {
    uint8_t plain[LARGEST], nonce[NONCE], additional[64];
    int head = 4 + (message[0] & 15), code = message[1], unused;
    if (code == 0) return length;
    bool asks = code <= LAST_METHOD;
    if (asks) set_piv(&c->asked, c->number++);
    /* The code, the options, an Echo behind them, the payload. */
    const uint8_t *at = message + head, *end = message + length;
    struct option last = {.number = 0};
    while (next_option(&at, end, &last)) continue;
    int size = 0, options = (int)(at - message) - head;
    plain[size++] = (uint8_t)code;
    memcpy(plain + size, message + head, (size_t)options);
    size += options;
    if (asks && c->echo_length) {
        int delta = ECHO - last.number;
        if (delta < 13) die("options behind the Echo");
        plain[size++] = (uint8_t)(0xd0 | (c->echo_length < 13 ? c->echo_length : 13));
        plain[size++] = (uint8_t)(delta - 13);
        if (c->echo_length >= 13) plain[size++] = (uint8_t)(c->echo_length - 13);
        memcpy(plain + size, c->echo, (size_t)c->echo_length);
        size += c->echo_length;
        c->echo_length = 0;
    }
    memcpy(plain + size, at, (size_t)(end - at));
    size += (int)(end - at);
    /* Outside: what kind of message it is, and the OSCORE option alone. */
    const struct id *kid = asks ? &c->ours : &c->theirs;
    const struct piv *piv = asks ? &c->asked : &c->told;
    int value = asks ? 1 + piv->length + kid->length : 0;
    if (head + 1 + value + 1 + size + TAG > room) die("no room for a protected message");
    uint8_t *out = message + head;
    message[1] = asks ? POST : CHANGED;
    *out++ = (uint8_t)(OSCORE << 4 | value);
    if (asks) {
        *out++ = (uint8_t)(HAS_KID | piv->length);
        memcpy(out, piv->bytes, (size_t)piv->length);
        memcpy(out + piv->length, kid->bytes, (size_t)kid->length);
        out += piv->length + kid->length;
    }
    *out++ = 0xff;
    make_nonce(c, kid, piv, nonce);
    int additional_length = additional_data(kid, piv, additional);
    EVP_EncryptInit_ex(sealing, NULL, NULL, c->write_key, nonce);
    EVP_EncryptUpdate(sealing, NULL, &unused, NULL, size);
    EVP_EncryptUpdate(sealing, NULL, &unused, additional, additional_length);
    EVP_EncryptUpdate(sealing, out, &unused, plain, size);
    EVP_EncryptFinal_ex(sealing, out + size, &unused);
    EVP_CIPHER_CTX_ctrl(sealing, EVP_CTRL_AEAD_GET_TAG, TAG, out + size);
    return (int)(out - message) + size + TAG;
}

/* -- in -- */

int oscore_open(struct oscore *c, uint8_t *message, int length, bool *told_echo) {
    uint8_t plain[LARGEST], nonce[NONCE], additional[64];
    int head = length < 4 ? 0 : 4 + (message[0] & 15), unused;
    *told_echo = false;
    if (head == 0 || head > length || length > LARGEST) return 0;
    const uint8_t *at = message + head, *end = message + length;
    struct option option = {.number = 0};
    bool is_protected = false;
    struct piv named = {.length = 0};
    while (next_option(&at, end, &option)) {
        if (option.number != OSCORE) continue;
        is_protected = true;
        if (option.length) named.length = option.value[0] & PIV_LENGTH;
        if (named.length > LONGEST_PIV || named.length >= option.length + !option.length) return 0;
        memcpy(named.bytes, option.value + 1, (size_t)named.length);
    }
    if (!is_protected) return length;
    if (at >= end || end - ++at <= TAG) return 0;
    bool asks = message[1] <= LAST_METHOD;
    if (asks) c->told = named;
    make_nonce(c, named.length ? &c->theirs : &c->ours, named.length ? &named : &c->asked, nonce);
    int additional_length = additional_data(asks ? &c->theirs : &c->ours, asks ? &c->told : &c->asked, additional);
    int size = (int)(end - at) - TAG;
    EVP_DecryptInit_ex(opening, NULL, NULL, NULL, NULL);
    EVP_CIPHER_CTX_ctrl(opening, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(end - TAG));
    EVP_DecryptInit_ex(opening, NULL, NULL, c->read_key, nonce);
    EVP_DecryptUpdate(opening, NULL, &unused, NULL, size);
    EVP_DecryptUpdate(opening, NULL, &unused, additional, additional_length);
    if (EVP_DecryptUpdate(opening, plain, &unused, at, size) <= 0) return 0;
    message[1] = plain[0];
    memcpy(message + head, plain + 1, (size_t)size - 1);
    length = head + size - 1;
    if (plain[0] == UNAUTHORIZED) {
        at = message + head;
        end = message + length;
        option = (struct option){.number = 0};
        while (next_option(&at, end, &option)) {
            if (option.number != ECHO || option.length > LONGEST_ECHO) continue;
            memcpy(c->echo, option.value, (size_t)option.length);
            c->echo_length = option.length;
            *told_echo = true;
        }
    }
    return length;
}
