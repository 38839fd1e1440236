/* load: a fleet of LwM2M devices in one thread, to find out how fast a server answers them (CoAP over UDP, DTLS, TCP
 * or TLS, also with OSCORE).
 *
 *   cc -O2 -o load benchmarks/load.c benchmarks/secure.c benchmarks/oscore.c benchmarks/stream.c -lssl -lcrypto
 *   (or -DWITHOUT_CRYPTO, without the others: NoSec over UDP only)
 *   ./load --port 5683 --devices 2000 --window 64 --seconds 10 --scenario update
 *
 * A closed loop: at most --window requests are out, at most one of each device; each answer makes room for the next.
 * Every request is confirmable and is repeated when no answer comes (RFC 7252 4.2). Each device has a socket of its own,
 * and answers what the server asks of it.
 *
 *   handshake  lets each device make one DTLS session after the other
 *   register   registers the fleet over and over
 *   update     registers it once, then renews the registrations (LwM2M 1.1 Update without parameters)
 *   send       registers it once, then reports four values at a time (LwM2M 1.1 Send, SenML-CBOR)
 *   notify     registers it once, waits until the server observes every device, then notifies
 *   hold       registers it once, then answers and waits for lines on standard input: "register", "update", "send" or
 *              "handshake" lets every device do that once. Ends when standard input does
 *
 * The devices are load-00000000 and so on, or from --first N on: a fleet with more devices than a process may have open
 * files takes several.
 *
 * With --security psk, rpk or x509 devices are secure (secure.h tells their keys; x509 wants --certificates FILE). They
 * ask for a connection ID unless --cid 0. Every one makes a session first and keeps it. With --security oscore they
 * protect their messages (oscore.h tells their keys) and cannot notify; a run against a server that has heard them before
 * begins with numbers above those that it has seen, --number N.
 *
 * With --over tcp, tls1.2 or tls1.3 each device has a connection (stream.h), over TLS with --security psk or x509. Nothing is
 * repeated there; what is not answered within --patience S (30) is lost. A handshake lasts from the connection to the
 * server's first word, and ends the connection.
 *
 * With --warm S nothing counts for the first S seconds after the fleet is registered.
 *
 * With --rate R it is an open loop: R requests a second are due, whether or not the earlier ones were answered.
 *
 * Standard output has a line of JSON for each thing that happened ("event"); the last one is the result. Latencies run
 * from the first transmission (with --rate: from when the request was due) to the answer; "series" has the answers and
 * the p99 of each second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "oscore.h"
#include "secure.h"
#include "stream.h"

enum { CONFIRMABLE, NON_CONFIRMABLE, ACKNOWLEDGEMENT, RESET };
enum { EMPTY = 0x00, GET = 0x01, POST = 0x02, DELETE = 0x04, FETCH = 0x05, LAST_METHOD = 0x1f };
enum { ESTABLISHED = 0x40 /* of a handshake, among the codes */, CREATED = 0x41, DELETED = 0x42, CHANGED = 0x44, CONTENT = 0x45, NOT_ACCEPTABLE = 0x86 };
enum { OBSERVE = 6, LOCATION_PATH = 8, URI_PATH = 11, CONTENT_FORMAT = 12, URI_QUERY = 15, ACCEPT = 17 };
enum { TEXT = 0, LINK_FORMAT = 40, SENML_CBOR = 112 };

enum {
    LARGEST_MESSAGE = 320,
    LONGEST_PATH = 64,
    LONGEST_TOKEN = 8,
    SOCKETS_PER_ADDRESS = 16000, /* below the number of ephemeral ports */
    EVENTS_PER_ROUND = 512,
    REPETITIONS = 4, /* RFC 7252 4.8: MAX_RETRANSMIT */
    NOBODY = -1,
};
#define ORDERS UINT32_MAX /* the event of standard input; those of devices have their index */
#define SWEEP_EVERY_S 0.05
#define ENROL_WITHIN_S 180.0
#define OBSERVE_WITHIN_S 60.0
#define SEPARATE_WITHIN_S 30.0
#define REST_S 1.0

enum scenario { HANDSHAKE, REGISTER, UPDATE, SEND, NOTIFY, HOLD };
static const char *const scenario_names[] = {"handshake", "register", "update", "send", "notify", "hold"};

/* -- options, and what is counted -- */

static struct {
    const char *host, *prefix, *certificates;
    enum scenario scenario;
    enum credentials security;
    bool oscore;
    enum stream_kind over;
    int number, cid, port, devices, first, window, lifetime, lists;
    double seconds, warm, patience, rto, rate;
} options = {
    .host = "127.0.0.1", .prefix = "load-", .scenario = UPDATE, .port = 5683, .devices = 1000, .first = 0, .window = 64,
    .lifetime = 86400, .lists = 1, .seconds = 10, .patience = SEPARATE_WITHIN_S, .rto = 2, .rate = 0, .security = NO_SECURITY, .cid = 1,
    .certificates = "",
};

static struct {
    long answered, repeated, lost, served, by_code[256];
    long handshakes, numbers_again; /* as they were when counting began */
    double first_at;                /* of the answers */
} count;

/* Every latency in microseconds, in the order of the answers, and how many there were at the end of each second. */
static struct {
    uint32_t *us;
    long length, room;
    long *second_ends;
    int seconds, seconds_room;
} latency;

struct device {
    int fd, slot; /* its place among those in flight, or NOBODY */
    uint16_t message_id;
    struct secure *session; /* NULL: plain */
    struct oscore *context; /* NULL: not protected */
    struct stream *stream;  /* NULL: datagrams */
    bool shaking;           /* hands, at this moment */
    bool registered, observed;
    uint8_t token_length, token[LONGEST_TOKEN]; /* of the observation */
    uint16_t observe_format;
    char observed_path[LONGEST_PATH];
    uint32_t sequence;
    uint8_t location[LONGEST_PATH], location_length; /* segments, each behind its length */
    uint8_t request[LARGEST_MESSAGE];
    uint16_t request_length;
    int repetitions;
    double counts_from, repeat_at;
};

static struct device *fleet;
static int *in_flight, flying; /* indexes into the fleet */
static int *waiting, waiting_first, waiting_count; /* a ring: who has to register still */
static int cursor;                                 /* who is next, once all are registered */
static int registered, observed;
static int refusal;        /* the first 4.xx to a Register of the fleet: no use to go on */
static double rest_until; /* a server that is overloaded (5.03) gets a pause */

static double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void *reserve(size_t number, size_t size) {
    void *room = calloc(number, size);
    if (room == NULL) {
        perror("load");
        exit(2);
    }
    return room;
}

/* -- writing a message (RFC 7252 3) -- */

struct writer {
    uint8_t *bytes;
    int length, room, option;
};

static void put(struct writer *w, const void *bytes, int length) {
    if (length < 0 || w->length + length > w->room) {
        fprintf(stderr, "load: a message of more than %d bytes\n", w->room);
        exit(2);
    }
    memcpy(w->bytes + w->length, bytes, (size_t)length);
    w->length += length;
}

static void put_byte(struct writer *w, int value) {
    uint8_t byte = (uint8_t)value;
    put(w, &byte, 1);
}

static void put_text(struct writer *w, const char *text) { put(w, text, (int)strlen(text)); }

static struct writer begin(uint8_t *bytes, int room, int type, int code, uint16_t id, const uint8_t *token, int length) {
    struct writer w = {bytes, 0, room, 0};
    put_byte(&w, 1 << 6 | type << 4 | length);
    put_byte(&w, code);
    put_byte(&w, id >> 8);
    put_byte(&w, id);
    put(&w, token, length);
    return w;
}

static int nibble(int value) { return value < 13 ? value : value < 269 ? 13 : 14; }

static void put_extension(struct writer *w, int value) {
    if (value >= 269) {
        put_byte(w, (value - 269) >> 8);
        put_byte(w, value - 269);
    } else if (value >= 13) {
        put_byte(w, value - 13);
    }
}

/* Options come in the order of their numbers. */
static void put_option(struct writer *w, int number, const void *value, int length) {
    int delta = number - w->option;
    w->option = number;
    put_byte(w, nibble(delta) << 4 | nibble(length));
    put_extension(w, delta);
    put_extension(w, length);
    put(w, value, length);
}

static void put_text_option(struct writer *w, int number, const char *text) {
    put_option(w, number, text, (int)strlen(text));
}

static void put_number_option(struct writer *w, int number, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    int skip = 0;
    while (skip < 4 && bytes[skip] == 0) skip++;
    put_option(w, number, bytes + skip, 4 - skip);
}

static void put_payload_marker(struct writer *w) { put_byte(w, 0xff); }

/* -- what a device has to say (RFC 8428 6) -- */

enum { BASE_NAME = 0x21, NAME = 0x00, VALUE = 0x02, TEXT_VALUE = 0x03 };

static void put_cbor_text(struct writer *w, const char *text) {
    int length = (int)strlen(text);
    if (length < 24) {
        put_byte(w, 0x60 | length);
    } else {
        put_byte(w, 0x78);
        put_byte(w, length);
    }
    put_text(w, text);
}

static void put_cbor_double(struct writer *w, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_byte(w, 0xfb);
    for (int shift = 56; shift >= 0; shift -= 8) put_byte(w, (int)(bits >> shift & 0xff));
}

static void put_label(struct writer *w, int label, const char *text) {
    put_byte(w, label);
    put_cbor_text(w, text);
}

static void put_float_value(struct writer *w, double value) {
    put_byte(w, VALUE);
    put_cbor_double(w, value);
}

/* A temperature now, its least and its most, and the unit: four records below the base name. */
static void put_temperatures(struct writer *w, const char *base, double value) {
    put_byte(w, 0x84);
    put_byte(w, 0xa3);
    put_label(w, BASE_NAME, base);
    put_label(w, NAME, "5700");
    put_float_value(w, value);
    put_byte(w, 0xa2);
    put_label(w, NAME, "5601");
    put_float_value(w, value - 3.25);
    put_byte(w, 0xa2);
    put_label(w, NAME, "5602");
    put_float_value(w, value + 3.25);
    put_byte(w, 0xa2);
    put_label(w, NAME, "5701");
    put_label(w, TEXT_VALUE, "Cel");
}

static bool is_below_temperature(const char *path) { return strncmp(path, "/3303/", 6) == 0; }
static bool is_unit(const char *path) { return is_below_temperature(path) && strstr(path, "/5701") != NULL; }

static int depth_of(const char *path) {
    int depth = 0;
    for (; *path; path++) depth += *path == '/';
    return depth;
}

/* The content of a path that the server reads or observes. */
static void put_content(struct writer *w, const char *path, int format, double value) {
    char text[80];
    bool single = depth_of(path) >= 3;
    bool number = is_below_temperature(path) && !is_unit(path);
    put_payload_marker(w);
    if (format == TEXT) {
        snprintf(text, sizeof text, "%.2f", value);
        put_text(w, number ? text : is_unit(path) ? "Cel" : "load");
    } else if (single) {
        put_byte(w, 0x81);
        put_byte(w, 0xa2);
        put_label(w, BASE_NAME, path);
        if (number) {
            put_float_value(w, value);
        } else {
            put_label(w, TEXT_VALUE, is_unit(path) ? "Cel" : "load");
        }
    } else if (strncmp(path, "/3303", 5) == 0) {
        put_temperatures(w, "/3303/0/", value);
    } else {
        snprintf(text, sizeof text, "%.60s%s/", path, depth_of(path) < 2 ? "/0" : "");
        put_byte(w, 0x81);
        put_byte(w, 0xa3);
        put_label(w, BASE_NAME, text);
        put_label(w, NAME, "0");
        put_label(w, TEXT_VALUE, "load");
    }
}

static void put_object_list(struct writer *w, int list) {
    char more[96];
    put_text(w, "</>;rt=\"oma.lwm2m\";ct=112,</1/0>,</3/0>,</3303/0>");
    if (list > 0) {
        snprintf(more, sizeof more, ",</3304/%d>,</3311/%d>,</3342/%d>", list % 10, list / 10 % 10, list / 100);
        put_text(w, more);
    }
}

/* -- requests of a device -- */

static struct writer begin_request(struct device *device, int index) {
    uint16_t id = ++device->message_id;
    uint8_t token[4] = {(uint8_t)(index >> 8), (uint8_t)index, (uint8_t)(id >> 8), (uint8_t)id};
    return begin(device->request, LARGEST_MESSAGE, CONFIRMABLE, POST, id, token, sizeof token);
}

static double changing(uint32_t number) { return 20.5 + number % 10; }

static void build_register(struct device *device, int index) {
    char query[80];
    int number = options.first + index;
    struct writer w = begin_request(device, index);
    put_text_option(&w, URI_PATH, "rd");
    put_number_option(&w, CONTENT_FORMAT, LINK_FORMAT);
    snprintf(query, sizeof query, "ep=%.60s%08d", options.prefix, number);
    put_text_option(&w, URI_QUERY, query);
    snprintf(query, sizeof query, "lt=%d", options.lifetime);
    put_text_option(&w, URI_QUERY, query);
    put_text_option(&w, URI_QUERY, "lwm2m=1.1");
    put_text_option(&w, URI_QUERY, options.over ? "b=T" : "b=U");
    put_payload_marker(&w);
    put_object_list(&w, number % options.lists);
    device->request_length = (uint16_t)w.length;
}

static void build_update(struct device *device, int index) {
    struct writer w = begin_request(device, index);
    for (int at = 0; at < device->location_length; at += 1 + device->location[at]) {
        put_option(&w, URI_PATH, device->location + at + 1, device->location[at]);
    }
    device->request_length = (uint16_t)w.length;
}

static void build_send(struct device *device, int index) {
    struct writer w = begin_request(device, index);
    put_text_option(&w, URI_PATH, "dp");
    put_number_option(&w, CONTENT_FORMAT, SENML_CBOR);
    put_payload_marker(&w);
    put_temperatures(&w, "/3303/0/", changing(device->message_id));
    device->request_length = (uint16_t)w.length;
}

static void build_notification(struct device *device) {
    struct writer w = begin(device->request, LARGEST_MESSAGE, CONFIRMABLE, CONTENT, ++device->message_id, device->token,
                            device->token_length);
    /* RFC 7641 4.4: it grows, modulo 2^24. */
    device->sequence = (device->sequence + 1) & 0xffffff;
    put_number_option(&w, OBSERVE, device->sequence);
    put_number_option(&w, CONTENT_FORMAT, device->observe_format);
    put_content(&w, device->observed_path, device->observe_format, changing(device->sequence));
    device->request_length = (uint16_t)w.length;
}

static void build(struct device *device, int index, enum scenario what) {
    switch (what) {
    case HANDSHAKE: break;
    case REGISTER: build_register(device, index); break;
    case UPDATE: build_update(device, index); break;
    case SEND: build_send(device, index); break;
    case NOTIFY: build_notification(device); break;
    case HOLD: break;
    }
    if (device->context && device->request_length) {
        device->request_length =
            (uint16_t)oscore_seal(device->context, device->request, device->request_length, LARGEST_MESSAGE);
    }
}

static void leave(int fd, const uint8_t *bytes, int length) {
    /* A datagram that does not leave is like one that gets lost. */
    ssize_t left = send(fd, bytes, (size_t)length, 0);
    (void)left;
}

static void say_to_server(const struct device *device, const uint8_t *bytes, int length) {
    if (device->stream) {
        stream_send(device->stream, bytes, length);
    } else if (device->session) {
        secure_send(device->session, device->fd, bytes, length);
    } else {
        leave(device->fd, bytes, length);
    }
}

static void transmit(struct device *device) {
    if (device->session && (device->shaking || !secure_is_established(device->session))) {
        device->shaking = true;
        secure_repeat(device->session, device->fd);
        return;
    }
    say_to_server(device, device->request, device->request_length);
}

/* -- who is in flight -- */

static void launch(int index, enum scenario what, double counts_from, double at) {
    struct device *device = &fleet[index];
    build(device, index, what);
    device->counts_from = counts_from;
    device->repetitions = 0;
    device->repeat_at = at + options.rto;
    device->slot = flying;
    in_flight[flying++] = index;
    if (device->stream) {
        device->repetitions = REPETITIONS;
        device->repeat_at = at + options.patience;
        if (what == HANDSHAKE || !stream_is_established(device->stream)) {
            device->shaking = true;
            if (!stream_connect(device->stream)) exit(2);
            device->shaking = !stream_is_established(device->stream);
            if (device->shaking) return;
        }
    }
    if (device->session && (what == HANDSHAKE || !secure_is_established(device->session))) {
        device->shaking = true;
        secure_connect(device->session, device->fd);
        return;
    }
    transmit(device);
}

static void land(struct device *device) {
    int last = in_flight[--flying];
    in_flight[device->slot] = last;
    fleet[last].slot = device->slot;
    device->slot = NOBODY;
}

static void enqueue(int index) {
    waiting[(waiting_first + waiting_count++) % options.devices] = index;
}

static int dequeue(void) {
    int index = waiting[waiting_first];
    waiting_first = (waiting_first + 1) % options.devices;
    waiting_count--;
    return index;
}

/* The next device that has nothing out, round robin; NOBODY when all have. */
static int next_idle(void) {
    for (int tried = 0; tried < options.devices; tried++) {
        int index = cursor;
        cursor = cursor + 1 == options.devices ? 0 : cursor + 1;
        if (fleet[index].slot == NOBODY && (options.scenario != NOTIFY || fleet[index].observed)) return index;
    }
    return NOBODY;
}

/* -- reading a message -- */

struct message {
    int type, code, token_length, depth, locations;
    uint16_t id;
    const uint8_t *token;
    long observe, accept; /* -1: the option is not there */
    char path[LONGEST_PATH];
    uint8_t location[LONGEST_PATH], location_length;
};

static bool read_extension(const uint8_t *bytes, int length, int *at, int *value) {
    if (*value == 13) {
        if (*at + 1 > length) return false;
        *value = bytes[(*at)++] + 13;
    } else if (*value == 14) {
        if (*at + 2 > length) return false;
        *value = (bytes[*at] << 8 | bytes[*at + 1]) + 269;
        *at += 2;
    }
    return *value != 15;
}

static bool parse(const uint8_t *bytes, int length, struct message *m) {
    if (length < 4 || bytes[0] >> 6 != 1 || (bytes[0] & 15) > LONGEST_TOKEN) return false;
    *m = (struct message){.type = bytes[0] >> 4 & 3, .code = bytes[1], .token_length = bytes[0] & 15,
                          .id = (uint16_t)(bytes[2] << 8 | bytes[3]), .token = bytes + 4, .observe = -1, .accept = -1};
    int at = 4 + m->token_length, number = 0, path_length = 0;
    if (at > length) return false;
    while (at < length && bytes[at] != 0xff) {
        int delta = bytes[at] >> 4, size = bytes[at] & 15;
        at++;
        if (!read_extension(bytes, length, &at, &delta) || !read_extension(bytes, length, &at, &size)) return false;
        if (at + size > length) return false;
        number += delta;
        long value = 0;
        for (int i = 0; i < size && i < 4; i++) value = value << 8 | bytes[at + i];
        if (number == OBSERVE) m->observe = value;
        if (number == ACCEPT) m->accept = value;
        if (number == URI_PATH && path_length + size + 2 < LONGEST_PATH) {
            m->path[path_length] = '/';
            memcpy(m->path + path_length + 1, bytes + at, (size_t)size);
            path_length += size + 1;
        }
        if (number == LOCATION_PATH && m->location_length + size + 1 < LONGEST_PATH) {
            m->location[m->location_length] = (uint8_t)size;
            memcpy(m->location + m->location_length + 1, bytes + at, (size_t)size);
            m->location_length = (uint8_t)(m->location_length + size + 1);
        }
        at += size;
    }
    return true;
}

/* -- answering the server -- */

static void reply(struct device *device, const struct writer *w) {
    int length = device->context ? oscore_seal(device->context, w->bytes, w->length, w->room) : w->length;
    say_to_server(device, w->bytes, length);
}

static void acknowledge(struct device *device, uint16_t id) {
    uint8_t bytes[4];
    struct writer w = begin(bytes, sizeof bytes, ACKNOWLEDGEMENT, EMPTY, id, NULL, 0);
    reply(device, &w);
}

static int success_of(int method) {
    switch (method) {
    case GET:
    case FETCH: return CONTENT;
    case DELETE: return DELETED;
    default: return CHANGED;
    }
}

static void serve(struct device *device, const struct message *m) {
    uint8_t bytes[LARGEST_MESSAGE];
    bool piggybacked = m->type == CONFIRMABLE;
    int code = success_of(m->code);
    bool single = depth_of(m->path) >= 3;
    long format = m->accept >= 0 ? m->accept : single ? TEXT : SENML_CBOR;
    if (code == CONTENT && format != SENML_CBOR && !(format == TEXT && single)) code = NOT_ACCEPTABLE;
    struct writer w = begin(bytes, sizeof bytes, piggybacked ? ACKNOWLEDGEMENT : NON_CONFIRMABLE, code,
                            piggybacked ? m->id : ++device->message_id, m->token, m->token_length);
    if (code == CONTENT) {
        if (m->observe == 0) {
            observed += !device->observed;
            device->observed = true;
            device->token_length = (uint8_t)m->token_length;
            memcpy(device->token, m->token, (size_t)m->token_length);
            device->observe_format = (uint16_t)format;
            memcpy(device->observed_path, m->path, LONGEST_PATH);
            device->sequence = (device->sequence + 1) & 0xffffff;
            put_number_option(&w, OBSERVE, device->sequence);
        }
        put_number_option(&w, CONTENT_FORMAT, (uint32_t)format);
        put_content(&w, m->path, (int)format, changing(device->sequence));
    }
    reply(device, &w);
    count.served++;
}

/* -- answers to our requests -- */

static void note_latency(double seconds) {
    if (latency.length == latency.room) {
        latency.room = latency.room ? latency.room * 2 : 1 << 20;
        latency.us = realloc(latency.us, (size_t)latency.room * sizeof *latency.us);
        if (latency.us == NULL) {
            perror("load");
            exit(2);
        }
    }
    latency.us[latency.length++] = (uint32_t)(seconds * 1e6);
}

static void count_answer(int code, double counts_from, double at) {
    if (count.answered++ == 0) count.first_at = at;
    count.by_code[code]++;
    note_latency(at - counts_from);
}

static void take_answer(struct device *device, const struct message *m, bool measuring, double at) {
    int index = (int)(device - fleet);
    land(device);
    if (m->code == CREATED) {
        memcpy(device->location, m->location, m->location_length);
        device->location_length = m->location_length;
        registered += !device->registered;
        device->registered = true;
    }
    if (!measuring) {
        if (m->code >> 5 == 4 && refusal == 0) refusal = m->code;
        if (m->code >> 5 == 5) rest_until = at + REST_S;
        if (!device->registered) enqueue(index);
        return;
    }
    count_answer(m->code, device->counts_from, at);
}

/* What the datagram says to the application, in its place; its length, or 0. */
static int hear_secure(struct device *device, enum scenario what, uint8_t *bytes, int length, bool measuring, double at) {
    length = secure_receive(device->session, device->fd, bytes, length);
    if (length < 0 && device->shaking && !measuring) refusal = NOT_ACCEPTABLE;
    if (device->shaking && secure_is_established(device->session)) {
        device->shaking = false;
        if (device->slot != NOBODY && what == HANDSHAKE) {
            land(device);
            count_answer(ESTABLISHED, device->counts_from, at);
        } else if (device->slot != NOBODY) {
            device->repeat_at = at + options.rto;
            transmit(device);
        }
    }
    return length;
}

/* What a protected datagram says, in its place; its length, or 0. A request that is asked for once more goes again. */
static int hear_protected(struct device *device, enum scenario what, uint8_t *bytes, int length, double at) {
    bool told_echo = false;
    length = oscore_open(device->context, bytes, length, &told_echo);
    if (!told_echo || device->slot == NOBODY) return length;
    if ((bytes[0] >> 4 & 3) == CONFIRMABLE) acknowledge(device, (uint16_t)(bytes[2] << 8 | bytes[3]));
    build(device, (int)(device - fleet), what);
    device->repeat_at = at + options.rto;
    transmit(device);
    return 0;
}

static bool answers_request(const struct device *device, const struct message *m) {
    int length = device->request[0] & 15;
    return m->token_length == length && memcmp(m->token, device->request + 4, (size_t)length) == 0;
}

static void hear(struct device *device, const struct message *m, bool measuring, double at) {
    if (m->code > EMPTY && m->code <= LAST_METHOD) {
        serve(device, m);
        return;
    }
    bool flying_here = device->slot != NOBODY;
    uint16_t expected = (uint16_t)(device->request[2] << 8 | device->request[3]);
    bool about_message = flying_here && m->id == expected && (m->type == ACKNOWLEDGEMENT || m->type == RESET);
    if (m->code == EMPTY) {
        if (!about_message) return;
        if (device->request[1] == CONTENT || m->type == RESET) {
            /* The end of a notification; one that is reset ends its observation too (RFC 7641 3.6). */
            if (m->type == RESET && device->observed) {
                device->observed = false;
                observed--;
            }
            take_answer(device, m, measuring, at);
        } else {
            /* The answer comes in a message of its own: nothing is repeated any more (RFC 7252 5.2.2). */
            device->repetitions = REPETITIONS;
            device->repeat_at = at + SEPARATE_WITHIN_S;
        }
        return;
    }
    if (m->type == CONFIRMABLE) acknowledge(device, m->id);
    if (flying_here && answers_request(device, m) && (m->type != ACKNOWLEDGEMENT || about_message)) {
        take_answer(device, m, measuring, at);
    }
}

/* What came over a connection: the end of its handshake, messages, its end. */
static void hear_stream(struct device *device, enum scenario what, bool measuring, double at) {
    uint8_t bytes[2048];
    struct message m;
    int length;
    stream_hear(device->stream);
    if (device->shaking && stream_is_established(device->stream)) {
        device->shaking = false;
        if (device->slot != NOBODY && what == HANDSHAKE) {
            land(device);
            count_answer(ESTABLISHED, device->counts_from, at);
            stream_close(device->stream);
            return;
        }
        if (device->slot != NOBODY) transmit(device);
    }
    while ((length = stream_receive(device->stream, bytes, sizeof bytes)) > 0) {
        if (device->context) length = hear_protected(device, what, bytes, length, at);
        if (length > 0 && parse(bytes, length, &m)) hear(device, &m, measuring, at);
    }
    if (length == 0) return;
    if (device->shaking && !measuring) refusal = NOT_ACCEPTABLE;
    device->shaking = false;
    stream_close(device->stream);
    if (device->slot == NOBODY) return;
    count.lost++;
    land(device);
    if (!measuring && !device->registered) enqueue((int)(device - fleet));
}

static void repeat_late_ones(bool measuring, double at) {
    for (int slot = flying - 1; slot >= 0; slot--) {
        int index = in_flight[slot];
        struct device *device = &fleet[index];
        if (at < device->repeat_at) continue;
        if (device->repetitions == REPETITIONS) {
            count.lost++;
            land(device);
            /* The other end may know nothing of the session any more. */
            if (device->session) secure_forget(device->session);
            if (device->stream) stream_close(device->stream);
            if (!measuring && !device->registered) enqueue(index);
            continue;
        }
        device->repetitions++;
        device->repeat_at = at + options.rto * (1 << device->repetitions);
        count.repeated++;
        transmit(device);
    }
}

/* -- the result -- */

static int compare_us(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* In milliseconds, of sorted values. */
static double percentile(const uint32_t *sorted, long length, double share) {
    return length ? sorted[(long)(share * (double)(length - 1))] / 1e3 : 0;
}

static void end_second(void) {
    if (latency.seconds == latency.seconds_room) {
        latency.seconds_room = latency.seconds_room ? latency.seconds_room * 2 : 64;
        latency.second_ends = realloc(latency.second_ends, (size_t)latency.seconds_room * sizeof *latency.second_ends);
        if (latency.second_ends == NULL) {
            perror("load");
            exit(2);
        }
    }
    latency.second_ends[latency.seconds++] = latency.length;
}

static void print_result(const char *event, enum scenario scenario, double began) {
    double spent = now_s() - began;
    printf("{\"event\": \"%s\", \"scenario\": \"%s\", \"devices\": %d, \"window\": %d, \"seconds\": %.3f, ", event,
           scenario_names[scenario], options.devices, options.window, spent);
    printf("\"series\": [");
    long from = 0;
    for (int second = 0; second < latency.seconds; second++) {
        long length = latency.second_ends[second] - from;
        qsort(latency.us + from, (size_t)length, sizeof *latency.us, compare_us);
        printf("%s[%ld, %.3f]", second ? ", " : "", length, percentile(latency.us + from, length, 0.99));
        from = latency.second_ends[second];
    }
    qsort(latency.us, (size_t)latency.length, sizeof *latency.us, compare_us);
    printf("], \"answered\": %ld, \"per_second\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ",
           count.answered, (double)count.answered / spent, percentile(latency.us, latency.length, 0.5),
           percentile(latency.us, latency.length, 0.99), percentile(latency.us, latency.length, 1));
    printf("\"first_s\": %.3f, \"retransmissions\": %ld, \"lost\": %ld, \"served\": %ld, ",
           count.answered ? count.first_at - began : -1, count.repeated, count.lost, count.served);
    printf("\"handshakes\": %ld, \"numbers_again\": %ld, \"codes\": {", secure_handshakes - count.handshakes,
           secure_numbers_again - count.numbers_again);
    const char *separator = "";
    for (int code = 0; code < 256; code++) {
        if (count.by_code[code] == 0) continue;
        printf("%s\"%d.%02d\": %ld", separator, code >> 5, code & 31, count.by_code[code]);
        separator = ", ";
    }
    printf("}}\n");
    fflush(stdout);
}

static void say(const char *event, double seconds) {
    printf("{\"event\": \"%s\", \"devices\": %d, \"seconds\": %.3f}\n", event, registered, seconds);
    fflush(stdout);
}

static int fail(const char *why) {
    printf("{\"event\": \"result\", \"error\": \"%s: %d of %d devices registered, %d observed\"}\n", why, registered,
           options.devices, observed);
    return 1;
}

/* -- the loop -- */

enum phase { ENROLLING, AWAITING_OBSERVES, WARMING, MEASURING, HOLDING, ROUND };

static bool counts(enum phase phase) { return phase == MEASURING || phase == ROUND; }

static void reset_counts(void) {
    memset(&count, 0, sizeof count);
    count.handshakes = secure_handshakes;
    count.numbers_again = secure_numbers_again;
    latency.length = latency.seconds = 0;
}

static enum phase after_enrolment(void) {
    if (options.scenario == HOLD) return HOLDING;
    if (options.scenario == NOTIFY && observed < options.devices) return AWAITING_OBSERVES;
    return options.warm > 0 ? WARMING : MEASURING;
}

static void fill_window(enum phase phase, enum scenario what, double began, long *started, double at) {
    if (phase == ENROLLING || phase == ROUND) {
        while (flying < options.window && waiting_count > 0 && at >= rest_until) launch(dequeue(), what, at, at);
    } else if (phase == MEASURING || phase == WARMING) {
        while (flying < options.window) {
            double due = options.rate > 0 ? began + (double)*started / options.rate : at;
            if (due > at) return;
            int index = next_idle();
            if (index == NOBODY) return;
            ++*started;
            launch(index, what, due, at);
        }
    }
}

static enum scenario scenario_of(const char *where, const char *name) {
    for (int each = HANDSHAKE; each <= HOLD; each++) {
        if (strcmp(name, scenario_names[each]) == 0) return (enum scenario)each;
    }
    fprintf(stderr, "load: %s %s: handshake, register, update, send, notify or hold\n", where, name);
    exit(2);
}

/* One order at a time: the next is read when the fleet is done with this. */
static void await_order(int poll) {
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = ORDERS};
    epoll_ctl(poll, EPOLL_CTL_MOD, STDIN_FILENO, &wanted);
}

/* What a line of standard input wants; HOLD for its end. */
static enum scenario read_order(void) {
    char line[64];
    if (fgets(line, sizeof line, stdin) == NULL) return HOLD;
    line[strcspn(line, "\n")] = 0;
    enum scenario order = scenario_of("standard input", line);
    if (order == NOTIFY) {
        fprintf(stderr, "load: standard input notify: only a scenario notifies\n");
        exit(2);
    }
    return order;
}

static int run(int poll) {
    struct epoll_event events[EVENTS_PER_ROUND];
    uint8_t datagram[2048];
    double started_at = now_s(), began = started_at, swept = started_at, waited_from = 0;
    long started = 0;
    enum phase phase = options.scenario <= REGISTER ? MEASURING : ENROLLING;
    enum scenario what = options.scenario == HANDSHAKE ? HANDSHAKE : REGISTER;
    if (phase == MEASURING) say("measuring", 0);
    for (;;) {
        double at = now_s();
        enum phase before = phase;
        if (phase == ENROLLING && registered == options.devices) {
            say("registered", at - started_at);
            waited_from = at;
            phase = after_enrolment();
        }
        if (phase == AWAITING_OBSERVES && observed == options.devices) phase = MEASURING;
        if (phase == WARMING && before != WARMING) {
            began = at;
            what = options.scenario;
        }
        if (phase == WARMING && at - began >= options.warm) phase = MEASURING;
        if (phase == MEASURING && before != MEASURING) {
            say("measuring", at - started_at);
            began = at;
            started = 0;
            what = options.scenario;
            reset_counts();
        }
        if (phase == ROUND && waiting_count + flying == 0) {
            print_result("round", what, began);
            reset_counts();
            phase = HOLDING;
        }
        if (phase == HOLDING && before != HOLDING) await_order(poll);
        if (phase == ENROLLING && refusal) return fail("a handshake or Register was refused as one that can never succeed");
        if (phase == ENROLLING && at - started_at > ENROL_WITHIN_S) return fail("not everybody could register");
        if (phase == AWAITING_OBSERVES && at - waited_from > OBSERVE_WITHIN_S) return fail("not everybody is observed");
        if (phase == MEASURING) {
            while (at - began >= latency.seconds + 1 && latency.seconds + 1 <= options.seconds) end_second();
            if (at - began >= options.seconds) break;
        }
        fill_window(phase, what, began, &started, at);
        bool paced = (phase == MEASURING || phase == WARMING) && options.rate > 0 && flying < options.window;
        int ready = epoll_wait(poll, events, EVENTS_PER_ROUND, paced ? 1 : 20);
        at = now_s();
        for (int each = 0; each < ready; each++) {
            if (events[each].data.u32 == ORDERS) {
                if (phase != HOLDING) continue;
                what = read_order();
                if (what == HOLD) goto over;
                reset_counts();
                for (int index = 0; index < options.devices; index++) enqueue(index);
                began = at;
                phase = ROUND;
                continue;
            }
            struct device *device = &fleet[events[each].data.u32];
            struct message m;
            if (device->stream) {
                hear_stream(device, what, counts(phase), at);
                continue;
            }
            /* One datagram a turn: what else there is makes the socket readable again. */
            int length = (int)recv(device->fd, datagram, sizeof datagram, 0);
            if (length > 0 && device->session) length = hear_secure(device, what, datagram, length, counts(phase), at);
            if (length > 0 && device->context) length = hear_protected(device, what, datagram, length, at);
            if (length > 0 && parse(datagram, length, &m)) hear(device, &m, counts(phase), at);
        }
        if (at - swept > SWEEP_EVERY_S) {
            swept = at;
            repeat_late_ones(counts(phase), at);
        }
    }
over:
    print_result("result", options.scenario, began);
    return 0;
}

/* -- start -- */

static void allow_open_files(int wanted) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= (rlim_t)wanted) return;
    rlim_t hardest = limit.rlim_max > (rlim_t)wanted ? limit.rlim_max : (rlim_t)wanted;
    struct rlimit raised = {(rlim_t)wanted, hardest};
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {
        fprintf(stderr, "load: %d open files are needed, %llu are allowed; share the fleet out (--first)\n", wanted,
                (unsigned long long)limit.rlim_max);
        exit(2);
    }
}

static void open_socket(struct device *device, int index, const struct sockaddr_in *server, int poll) {
    struct sockaddr_in ours = {.sin_family = AF_INET};
    ours.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)((options.first + index) / SOCKETS_PER_ADDRESS));
    struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    device->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (device->fd < 0 || bind(device->fd, (const struct sockaddr *)&ours, sizeof ours) != 0 ||
        connect(device->fd, (const struct sockaddr *)server, sizeof *server) != 0 ||
        epoll_ctl(poll, EPOLL_CTL_ADD, device->fd, &wanted) != 0) {
        perror("load: socket");
        exit(2);
    }
}

static int whole(const char *name, const char *text, int least) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || value < least || value > INT32_MAX) {
        fprintf(stderr, "load: %s %s: a whole number from %d on\n", name, text, least);
        exit(2);
    }
    return (int)value;
}

static enum credentials credentials_of(const char *name, const char *text) {
    if (strcmp(text, "nosec") == 0) return NO_SECURITY;
    if (strcmp(text, "psk") == 0) return WITH_PSK;
    if (strcmp(text, "rpk") == 0) return WITH_RPK;
    if (strcmp(text, "x509") == 0) return WITH_X509;
    fprintf(stderr, "load: %s %s: nosec, oscore, psk, rpk or x509\n", name, text);
    exit(2);
}

static enum stream_kind stream_of(const char *name, const char *text) {
    static const char *const names[] = {"udp", "tcp", "tls1.2", "tls1.3"};
    for (int each = NO_STREAM; each <= OVER_TLS_1_3; each++) {
        if (strcmp(text, names[each]) == 0) return (enum stream_kind)each;
    }
    fprintf(stderr, "load: %s %s: udp, tcp, tls1.2 or tls1.3\n", name, text);
    exit(2);
}

static double positive(const char *name, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (*text == 0 || *end != 0 || !(value >= 0)) {
        fprintf(stderr, "load: %s %s: a number from 0 on\n", name, text);
        exit(2);
    }
    return value;
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(name, "--host") == 0) options.host = value;
        else if (strcmp(name, "--port") == 0) options.port = whole(name, value, 1);
        else if (strcmp(name, "--devices") == 0) options.devices = whole(name, value, 1);
        else if (strcmp(name, "--first") == 0) options.first = whole(name, value, 0);
        else if (strcmp(name, "--window") == 0) options.window = whole(name, value, 1);
        else if (strcmp(name, "--lifetime") == 0) options.lifetime = whole(name, value, 1);
        else if (strcmp(name, "--lists") == 0) options.lists = whole(name, value, 1);
        else if (strcmp(name, "--prefix") == 0) options.prefix = value;
        else if (strcmp(name, "--security") == 0 && strcmp(value, "oscore") == 0) options.oscore = true;
        else if (strcmp(name, "--security") == 0) options.security = credentials_of(name, value);
        else if (strcmp(name, "--over") == 0) options.over = stream_of(name, value);
        else if (strcmp(name, "--cid") == 0) options.cid = whole(name, value, 0);
        else if (strcmp(name, "--number") == 0) options.number = whole(name, value, 0);
        else if (strcmp(name, "--certificates") == 0) options.certificates = value;
        else if (strcmp(name, "--scenario") == 0) options.scenario = scenario_of(name, value);
        else if (strcmp(name, "--seconds") == 0) options.seconds = positive(name, value);
        else if (strcmp(name, "--warm") == 0) options.warm = positive(name, value);
        else if (strcmp(name, "--patience") == 0) options.patience = positive(name, value);
        else if (strcmp(name, "--rate") == 0) options.rate = positive(name, value);
        else if (strcmp(name, "--rto") == 0) options.rto = positive(name, value) / 1e3;
        else {
            fprintf(stderr, "load: %s is not known; read the beginning of load.c\n", name);
            exit(2);
        }
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1 || ntohl(server.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "load: --host %s: an address of this machine's loopback, 127.x.x.x\n", options.host);
        return 2;
    }
    if (options.window > options.devices) options.window = options.devices;
    allow_open_files(options.devices + 64);
    fleet = reserve((size_t)options.devices, sizeof *fleet);
    in_flight = reserve((size_t)options.window, sizeof *in_flight);
    waiting = reserve((size_t)options.devices, sizeof *waiting);
    if (options.security == NO_SECURITY && options.scenario == HANDSHAKE) {
        fprintf(stderr, "load: --scenario handshake wants --security\n");
        return 2;
    }
    if ((options.over == OVER_TCP && options.security != NO_SECURITY) ||
        (options.over > OVER_TCP && options.security != WITH_PSK && options.security != WITH_X509)) {
        fprintf(stderr, "load: --over tcp goes with --security nosec or oscore, tls with psk or x509\n");
        return 2;
    }
    if (options.oscore && options.scenario == NOTIFY) {
        fprintf(stderr, "load: --scenario notify: not with --security oscore\n");
        return 2;
    }
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (options.over) {
        stream_start(options.over, options.security, options.certificates, options.first, &server, poll);
    } else if (options.security != NO_SECURITY) {
        secure_start(options.security, options.cid, options.certificates, options.first, leave);
    }
    uint32_t mixed = (uint32_t)time(NULL);
    for (int index = 0; index < options.devices; index++) {
        /* RFC 7252 4.4: where message IDs start is not the same for all, nor in every run. */
        mixed = mixed * 1664525u + 1013904223u;
        fleet[index].message_id = (uint16_t)(mixed >> 16);
        fleet[index].slot = NOBODY;
        char name[80];
        snprintf(name, sizeof name, "%.60s%08d", options.prefix, options.first + index);
        if (options.over) fleet[index].stream = stream_new(name, index);
        else if (options.security != NO_SECURITY) fleet[index].session = secure_new(name, index);
        if (options.oscore) fleet[index].context = oscore_new(name, (uint32_t)(options.first + index), options.number);
        if (!options.over) open_socket(&fleet[index], index, &server, poll);
        enqueue(index);
    }
    if (options.scenario == HOLD) {
        /* Unbuffered: what is not read yet is what epoll sees. */
        setvbuf(stdin, NULL, _IONBF, 0);
        struct epoll_event later = {.events = EPOLLONESHOT, .data.u32 = ORDERS};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &later) != 0) {
            fprintf(stderr, "load: hold wants a pipe or a terminal as standard input\n");
            return 2;
        }
    }
    return run(poll);
}
