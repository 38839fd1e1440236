/* What makes a device of the load one that speaks OSCORE (RFC 8613): messages in and out of their protected form.
 *
 * AES-CCM-16-64-128 and HKDF-SHA-256. All options are inside; requests and the answers to them only, no notifications. A
 * 4.01 with an Echo is kept, and the next request repeats it. Needs libcrypto.
 */
#ifndef OSCORE_H
#define OSCORE_H
#include <stdbool.h>
#include <stdint.h>

struct oscore;

/* The context of the device `name`, number `number`: its master secret is the first 16 bytes of SHA-256 of "oscore " and
 * the name, without a salt; the device sends as `number` in four bytes, the server as "s". `unused`: its first sender number. */
struct oscore *oscore_new(const char *name, uint32_t number, int unused);

/* The whole message of `length` bytes in its place, which has `room`: protected with a number of its own if it is a
 * request, else with that of the request that was opened last. Its length then. What has no code stays as it is. */
int oscore_seal(struct oscore *context, uint8_t *message, int length, int room);

/* The inverse; `*told_echo`: it is a 4.01 with an Echo. 0: it does not verify. What is not protected stays as it is. */
int oscore_open(struct oscore *context, uint8_t *message, int length, bool *told_echo);

#ifdef WITHOUT_CRYPTO
#include <stdio.h>
#include <stdlib.h>
struct oscore *oscore_new(const char *name, uint32_t number, int unused) {
    (void)name, (void)number, (void)unused;
    fprintf(stderr, "load: --security: made without libcrypto (its headers were not there)\n");
    exit(2);
}
int oscore_seal(struct oscore *context, uint8_t *message, int length, int room) {
    (void)context, (void)message, (void)room;
    return length;
}
int oscore_open(struct oscore *context, uint8_t *message, int length, bool *told_echo) {
    (void)context, (void)message, (void)told_echo;
    return length;
}
#endif
#endif
