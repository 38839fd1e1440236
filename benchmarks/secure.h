/* What makes a device of the load a secure one: a DTLS 1.2 client (RFC 6347) that is small and quick, not careful.
 *
 * PSK or ECDHE with a raw public key or a certificate of its own, AES-128-CCM_8, extended master secret, and the
 * connection ID of the server where it gives one. It does not verify who the server is, and takes messages in order
 * only: what is lost comes again. Needs libcrypto.
 */
#ifndef SECURE_H
#define SECURE_H
#include <stdbool.h>
#include <stdint.h>

enum credentials { NO_SECURITY, WITH_PSK, WITH_RPK, WITH_X509 };

struct secure;

/* Datagrams to the server leave by this. */
typedef void (*secure_leave)(int fd, const uint8_t *bytes, int length);

/* Once, before anything else. `certificates`: for WITH_X509, a file with one DER certificate after the other, each behind
 * its length in four bytes; `first`: the number of the first device in it that is ours. */
void secure_start(enum credentials credentials, bool with_cid, const char *certificates, int first, secure_leave leave);

/* The device `name`, number `index` of ours: PSK identity `name` and as key the first 16 bytes of SHA-256 of
 * "psk " and the name, as hex digits; its private key (P-256) is SHA-256 of "key " and the name. */
struct secure *secure_new(const char *name, int index);

/* A new handshake: the first ClientHello leaves. */
void secure_connect(struct secure *session, int fd);

/* The last flight of the handshake once more; a new handshake where there is none. */
void secure_repeat(struct secure *session, int fd);

/* As if there had been no session. */
void secure_forget(struct secure *session);

bool secure_is_established(const struct secure *session);

/* One record of application data. */
void secure_send(struct secure *session, int fd, const uint8_t *bytes, int length);

/* Takes a datagram from the server, in its place: what it carries lies at the beginning of `bytes` then. Its length; 0
 * where it carried nothing for the application; -1 where the session is over. */
int secure_receive(struct secure *session, int fd, uint8_t *bytes, int length);

/* How many handshakes were begun; how many records verified whose number was not above all before it in their session:
 * where the network keeps the order, a server that uses a number twice. */
extern long secure_handshakes, secure_numbers_again;

#ifdef WITHOUT_CRYPTO
/* Where there is no libcrypto, devices are plain. */
#include <stdio.h>
#include <stdlib.h>
long secure_handshakes, secure_numbers_again;
void secure_start(enum credentials credentials, bool with_cid, const char *certificates, int first, secure_leave leave) {
    (void)credentials, (void)with_cid, (void)certificates, (void)first, (void)leave;
    fprintf(stderr, "load: --security: made without libcrypto (its headers were not there)\n");
    exit(2);
}
struct secure *secure_new(const char *name, int index) { (void)name, (void)index; return NULL; }
void secure_connect(struct secure *session, int fd) { (void)session, (void)fd; }
void secure_repeat(struct secure *session, int fd) { (void)session, (void)fd; }
void secure_forget(struct secure *session) { (void)session; }
bool secure_is_established(const struct secure *session) { (void)session; return false; }
void secure_send(struct secure *session, int fd, const uint8_t *bytes, int length) {
    (void)session, (void)fd, (void)bytes, (void)length;
}
int secure_receive(struct secure *session, int fd, uint8_t *bytes, int length) {
    (void)session, (void)fd, (void)bytes, (void)length;
    return -1;
}
#endif
#endif
