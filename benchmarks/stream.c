/* See stream.h. */
#define _GNU_SOURCE
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGEST = 1024, ADDRESSES = 16 /* of the loopback, so that none has all connections and ports */ };
enum { CSM = 0xe1, PING, PONG, RELEASE, ABORT };
enum { NON_CONFIRMABLE = 1 };

struct stream {
    const char *name;
    int index, fd;
    SSL *tls;
    X509 *certificate;
    EVP_PKEY *key;
    bool shaken, confirmed, over;
    uint8_t in[LARGEST];
    int length;
};

static enum stream_kind kind;
static SSL_CTX *context;
static struct sockaddr_in server;
static int poll_fd;
static FILE *certificate_file;

static void die(const char *why) {
    fprintf(stderr, "load: stream: %s\n", why);
    ERR_print_errors_fp(stderr);
    exit(2);
}

/* Why the first handshake that failed did so: the others mostly have the same trouble. */
static void tell_once(unsigned long error) {
    static bool is_told;
    if (is_told) return;
    is_told = true;
    const char *reason = ERR_reason_error_string(error);
    fprintf(stderr, "load: a handshake failed: %s\n", reason ? reason : "the server has closed the connection");
}

/* -- keys -- */

static unsigned say_psk(SSL *tls, const char *hint, char *identity, unsigned identity_room, unsigned char *key,
                        unsigned room) {
    const struct stream *s = SSL_get_app_data(tls);
    (void)hint;
    if (room < sizeof STREAM_KEY - 1) return 0;
    snprintf(identity, identity_room, "%s", s->name);
    memcpy(key, STREAM_KEY, sizeof STREAM_KEY - 1);
    return sizeof STREAM_KEY - 1;
}

static int note_ticket(SSL *tls, SSL_SESSION *session) {
    struct stream *s = SSL_get_app_data(tls);
    (void)session;
    if (s) s->confirmed = true;
    return 0;
}

/* The private key is SHA-256 of "key " and the name, as in secure.h; its certificate is the next of the file. */
static void take_certificate(struct stream *s) {
    uint8_t length[4], der[4096], secret[SHA256_DIGEST_LENGTH];
    char text[128];
    const uint8_t *at = der;
    if (fread(length, 1, 4, certificate_file) != 4) die("the file has too few certificates");
    size_t size = (size_t)length[2] << 8 | length[3];
    if (size > sizeof der || fread(der, 1, size, certificate_file) != size) die("the file with certificates is broken");
    s->certificate = d2i_X509(NULL, &at, (long)size);
    int text_length = snprintf(text, sizeof text, "key %s", s->name);
    SHA256((const uint8_t *)text, (size_t)text_length, secret);
    EC_KEY *own = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    BIGNUM *number = BN_bin2bn(secret, sizeof secret, NULL);
    EC_POINT *point = EC_POINT_new(EC_KEY_get0_group(own));
    EC_POINT_mul(EC_KEY_get0_group(own), point, number, NULL, NULL, NULL);
    EC_KEY_set_private_key(own, number);
    EC_KEY_set_public_key(own, point);
    s->key = EVP_PKEY_new();
    if (s->certificate == NULL || !EVP_PKEY_assign_EC_KEY(s->key, own)) die("a certificate or key that cannot be used");
    EC_POINT_free(point);
    BN_free(number);
}

/* -- start -- */

void stream_start(enum stream_kind kind_, enum credentials credentials, const char *certificates, int first,
                  const struct sockaddr_in *server_, int poll_) {
    kind = kind_;
    server = *server_;
    poll_fd = poll_;
    if (kind == OVER_TCP) return;
    context = SSL_CTX_new(TLS_client_method());
    int version = kind == OVER_TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    static const uint8_t alpn[] = "\4coap";
    const char *suite = credentials == WITH_PSK ? "PSK-AES128-GCM-SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256";
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, version) ||
        !SSL_CTX_set_max_proto_version(context, version) || !SSL_CTX_set_cipher_list(context, suite) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(context, "P-256") ||
        SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn - 1)) {
        die("libssl cannot do this");
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, note_ticket);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    if (credentials == WITH_PSK) SSL_CTX_set_psk_client_callback(context, say_psk);
    if (credentials != WITH_X509) return;
    certificate_file = fopen(certificates, "rb");
    if (certificate_file == NULL) die("the file with certificates is not there");
    for (uint8_t length[4]; first > 0; first--) {
        if (fread(length, 1, 4, certificate_file) != 4) die("the file has too few certificates");
        fseek(certificate_file, length[2] << 8 | length[3], SEEK_CUR);
    }
}

struct stream *stream_new(const char *name, int index) {
    struct stream *s = calloc(1, sizeof *s);
    if (s == NULL) die("no memory");
    s->name = strdup(name);
    s->index = index;
    s->fd = -1;
    s->over = true;
    if (certificate_file) take_certificate(s);
    return s;
}

/* -- connections -- */

void stream_close(struct stream *s) {
    if (s->tls) {
        if (s->shaken && !s->over) SSL_shutdown(s->tls);
        SSL_free(s->tls);
    }
    if (s->fd >= 0) close(s->fd);
    s->tls = NULL;
    s->fd = -1;
    s->over = true;
    s->shaken = s->confirmed = false;
    s->length = 0;
    ERR_clear_error();
}

static void write_out(struct stream *s, const uint8_t *bytes, int length) {
    ERR_clear_error();
    if (s->over) return;
    bool is_out = s->tls ? SSL_write(s->tls, bytes, length) == length : send(s->fd, bytes, (size_t)length, MSG_NOSIGNAL) == length;
    if (!is_out) s->over = true;
}

static void go_on(struct stream *s) {
    static const uint8_t csm[] = {0x00, CSM};
    if (s->tls) {
        ERR_clear_error();
        int done = SSL_connect(s->tls);
        if (done != 1) {
            s->over = SSL_get_error(s->tls, done) != SSL_ERROR_WANT_READ;
            if (s->over) tell_once(ERR_peek_error());
            return;
        }
    }
    s->shaken = true;
    write_out(s, csm, sizeof csm);
}

bool stream_connect(struct stream *s) {
    struct sockaddr_in ours = {.sin_family = AF_INET};
    struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = (uint32_t)s->index};
    int on = 1;
    stream_close(s);
    ours.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(s->index % ADDRESSES));
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* On the loopback a server that has room answers at once. */
    if (s->fd < 0 || bind(s->fd, (const struct sockaddr *)&ours, sizeof ours) != 0 ||
        connect(s->fd, (const struct sockaddr *)&server, sizeof server) != 0 ||
        fcntl(s->fd, F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, s->fd, &wanted) != 0) {
        perror("load: connect");
        return false;
    }
    s->over = false;
    if (kind != OVER_TCP) {
        s->tls = SSL_new(context);
        SSL_set_app_data(s->tls, s);
        SSL_set_fd(s->tls, s->fd);
        if (s->certificate && (!SSL_use_certificate(s->tls, s->certificate) || !SSL_use_PrivateKey(s->tls, s->key))) {
            die("a certificate that does not go with its key");
        }
    }
    go_on(s);
    return true;
}

bool stream_is_established(const struct stream *s) {
    return !s->over && s->shaken && (kind != OVER_TLS_1_3 || s->confirmed);
}

/* -- messages (RFC 8323 3.2) -- */

void stream_hear(struct stream *s) {
    if (!s->shaken && !s->over) go_on(s);
    while (s->shaken && !s->over && s->length < LARGEST) {
        ERR_clear_error();
        int got, room = LARGEST - s->length;
        if (s->tls) {
            got = SSL_read(s->tls, s->in + s->length, room);
            if (got <= 0 && SSL_get_error(s->tls, got) == SSL_ERROR_WANT_READ) return;
        } else {
            got = (int)recv(s->fd, s->in + s->length, (size_t)room, 0);
            if (got < 0 && errno == EAGAIN) return;
        }
        if (got <= 0) s->over = true;
        if (got > 0) {
            s->length += got;
            s->confirmed = true;
        }
    }
}

void stream_send(struct stream *s, const uint8_t *message, int length) {
    uint8_t frame[LARGEST + 4];
    int token_length = message[0] & 15, body = length - 4 - token_length, at = 1;
    if (message[1] == 0) return; /* streams have no empty acknowledgements */
    if (length > LARGEST) die("a message that is too large");
    if (body < 13) {
        frame[0] = (uint8_t)(body << 4 | token_length);
    } else if (body < 269) {
        frame[0] = (uint8_t)(13 << 4 | token_length);
        frame[at++] = (uint8_t)(body - 13);
    } else {
        frame[0] = (uint8_t)(14 << 4 | token_length);
        frame[at++] = (uint8_t)((body - 269) >> 8);
        frame[at++] = (uint8_t)(body - 269);
    }
    frame[at++] = message[1];
    memcpy(frame + at, message + 4, (size_t)(length - 4));
    write_out(s, frame, at + length - 4);
}

/* The length of the first frame and where its code stands; 0 while it is not whole. */
static int frame_length(const struct stream *s, int *code_at) {
    if (s->length < 2) return 0;
    int body = s->in[0] >> 4, token_length = s->in[0] & 15;
    *code_at = body < 13 ? 1 : body == 13 ? 2 : 3;
    if (s->length <= *code_at || body == 15) return 0;
    if (body == 13) body = s->in[1] + 13;
    else if (body == 14) body = (s->in[1] << 8 | s->in[2]) + 269;
    int whole = *code_at + 1 + token_length + body;
    return whole <= s->length ? whole : 0;
}

int stream_receive(struct stream *s, uint8_t *message, int room) {
    int code_at, whole;
    while ((whole = frame_length(s, &code_at)) > 0) {
        int token_length = s->in[0] & 15, code = s->in[code_at], rest = whole - code_at - 1;
        if (4 + rest > room) die("a message that is too large");
        message[0] = (uint8_t)(1 << 6 | NON_CONFIRMABLE << 4 | token_length);
        message[1] = (uint8_t)code;
        message[2] = message[3] = 0;
        memcpy(message + 4, s->in + code_at + 1, (size_t)rest);
        s->length -= whole;
        memmove(s->in, s->in + whole, (size_t)s->length);
        if (code < CSM) return 4 + rest;
        if (code == PING) {
            message[1] = PONG;
            stream_send(s, message, 4 + token_length);
        }
        if (code == RELEASE || code == ABORT) s->over = true;
    }
    return s->over ? -1 : 0;
}
