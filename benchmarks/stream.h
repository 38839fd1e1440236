/* What makes a device of the load one that comes over TCP or TLS (RFC 8323): a connection of its own, and messages in and
 * out of their frames. Towards the load they look as those of UDP do: what comes is non-confirmable and has no message ID.
 *
 * TLS as devices speak it: a pre-shared key or a certificate, AES-128-GCM, P-256. It does not verify who the server is, and
 * resumes nothing. Needs libssl.
 */
#ifndef STREAM_H
#define STREAM_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "secure.h"

enum stream_kind { NO_STREAM, OVER_TCP, OVER_TLS_1_2, OVER_TLS_1_3 };

struct stream;

/* Once, before anything else. Events of the connection `index` come from `poll`. `credentials`, `certificates` and `first`
 * as in secure.h; the key of each device is STREAM_KEY, since not every server knows more than one. */
void stream_start(enum stream_kind kind, enum credentials credentials, const char *certificates, int first,
                  const struct sockaddr_in *server, int poll);
#define STREAM_KEY "key-of-the-load!"

struct stream *stream_new(const char *name, int index);

/* A new connection in the place of the one before; the handshake begins. False: the server takes none. */
bool stream_connect(struct stream *stream);

void stream_close(struct stream *stream);

/* Takes what came. */
void stream_hear(struct stream *stream);

/* Whether the server has let the device in: in TLS 1.3 its first message says so, or a ticket. */
bool stream_is_established(const struct stream *stream);

void stream_send(struct stream *stream, const uint8_t *message, int length);

/* The next message that came, into `message`; its length, 0 where there is none, -1 where the connection is over. */
int stream_receive(struct stream *stream, uint8_t *message, int room);

#ifdef WITHOUT_CRYPTO
#include <stdio.h>
#include <stdlib.h>
void stream_start(enum stream_kind kind, enum credentials credentials, const char *certificates, int first,
                  const struct sockaddr_in *server, int poll) {
    (void)kind, (void)credentials, (void)certificates, (void)first, (void)server, (void)poll;
    fprintf(stderr, "load: --over: made without libssl (its headers were not there)\n");
    exit(2);
}
struct stream *stream_new(const char *name, int index) { (void)name, (void)index; return NULL; }
bool stream_connect(struct stream *stream) { (void)stream; return false; }
void stream_close(struct stream *stream) { (void)stream; }
void stream_hear(struct stream *stream) { (void)stream; }
bool stream_is_established(const struct stream *stream) { (void)stream; return false; }
void stream_send(struct stream *stream, const uint8_t *message, int length) { (void)stream, (void)message, (void)length; }
int stream_receive(struct stream *stream, uint8_t *message, int room) { (void)stream, (void)message, (void)room; return -1; }
#endif
#endif
