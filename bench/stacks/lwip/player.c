/* Plays a trace (see ../src/trace.rs) to lwIP, for counting the instructions of counted() under
 * callgrind. `cargo xtask bench net` builds and runs it where Debian's liblwip-dev is installed:
 *
 *     cc -O2 -I/usr/include/lwip -o player player.c -llwip
 *     valgrind --tool=callgrind --toggle-collect=counted player TRACE STEPS
 *
 * The library is used the way that costs it least: by its raw API, in one thread, without its
 * tcpip_thread and mailboxes. As that thread never starts, the library's check that its core is
 * locked has nobody to compare with, and passes. Frames come in custom buffers, without a copy, and
 * responses are sent by reference. Checksums are computed in software, since this build of the library
 * cannot leave them to a NIC. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <netif/ethernet.h>

enum {
    FRAME = 1514,
    BATCH = 255,
    IP_AT = 14,
    TCP_AT = 34,
    PORT = 80,
    SYN = 2,
    ACK = 16,
};

enum kind { SETUP = 0, COUNTED = 1 };

/* A received frame, in a buffer that lwIP does not own. */
struct frame {
    struct pbuf_custom pbuf;
    uint32_t connection;
    uint16_t len;
    unsigned char bytes[FRAME];
};

static struct netif netif;
static struct frame frames[BATCH];
static unsigned frame_count;
/* First bytes of the latest frame sent while `is_kept`; other frames go nowhere. */
static unsigned char latest[64];
static int is_kept;
static uint64_t sent, sent_bytes;
static const char response[64];

static void fail(const char *what) {
    fprintf(stderr, "player: %s\n", what);
    exit(1);
}

/* The server. */

static err_t received(void *argument, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
    (void)argument;
    (void)error;
    if (data == NULL)
        return tcp_close(pcb);
    u16_t len = data->tot_len;
    tcp_recved(pcb, len);
    pbuf_free(data);
    /* lwIP sends it when it has dealt with the segment. */
    return tcp_write(pcb, response, len, 0);
}

static err_t accepted(void *argument, struct tcp_pcb *pcb, err_t error) {
    (void)argument;
    (void)error;
    tcp_recv(pcb, received);
    return ERR_OK;
}

static void serve(void) {
    struct tcp_pcb *pcb = tcp_new();
    if (pcb == NULL || tcp_bind(pcb, IP_ADDR_ANY, PORT) != ERR_OK)
        fail("cannot bind");
    pcb = tcp_listen(pcb);
    if (pcb == NULL)
        fail("cannot listen");
    tcp_accept(pcb, accepted);
}

/* The NIC. */

static err_t link_output(struct netif *unused, struct pbuf *frame) {
    (void)unused;
    if (is_kept)
        memcpy(latest, frame->payload, LWIP_MIN(frame->len, sizeof latest));
    sent++;
    sent_bytes += frame->tot_len;
    return ERR_OK;
}

static err_t set_up_nic(struct netif *nic) {
    static const unsigned char mac[] = {2, 0, 0, 0, 0, 1};
    nic->linkoutput = link_output;
    nic->output = etharp_output;
    nic->mtu = 1500;
    nic->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(nic->hwaddr, mac, sizeof mac);
    nic->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static void reuse(struct pbuf *unused) {
    (void)unused;
}

static void run(void) {
    for (unsigned at = 0; at < frame_count; at++) {
        struct frame *frame = &frames[at];
        struct pbuf *pbuf = pbuf_alloced_custom(PBUF_RAW, frame->len, PBUF_REF, &frame->pbuf,
                                                frame->bytes, sizeof frame->bytes);
        if (ethernet_input(pbuf, &netif) != ERR_OK)
            pbuf_free(pbuf);
    }
}

/* Under this function callgrind counts. */
__attribute__((noinline)) static void counted(void) {
    run();
    __asm__ volatile("" ::: "memory");
}

/* Looking through all connections for each new one would take hours: while they are established, the
 * earlier ones are put aside. */
static void run_aside(void) {
    struct tcp_pcb *aside = tcp_active_pcbs;
    struct tcp_pcb **end = &tcp_active_pcbs;
    tcp_active_pcbs = NULL;
    run();
    while (*end != NULL)
        end = &(*end)->next;
    *end = aside;
}

/* The trace. */

static uint32_t word(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put_word(unsigned char *at, uint32_t value) {
    for (int byte = 0; byte < 4; byte++)
        at[byte] = (unsigned char)(value >> (24 - 8 * byte));
}

static uint32_t sum(const unsigned char *at, size_t len) {
    uint32_t total = 0;
    for (size_t byte = 0; byte < len; byte++)
        total += (uint32_t)at[byte] << (byte & 1 ? 0 : 8);
    return total;
}

static void put_checksum(unsigned char *at, uint32_t total) {
    while (total >> 16)
        total = (total >> 16) + (total & 0xffff);
    at[0] = (unsigned char)(~total >> 8);
    at[1] = (unsigned char)~total;
}

/* Makes the frame what a peer would send that has seen the connection's initial sequence number. */
static void rebase(struct frame *frame, uint32_t initial_seq) {
    unsigned char *ip = frame->bytes + IP_AT, *tcp = frame->bytes + TCP_AT;
    uint32_t tcp_len = frame->len - TCP_AT;
    if (tcp[13] & ACK)
        put_word(tcp + 8, word(tcp + 8) + initial_seq);
    put_checksum(ip + 10, sum(ip, 20));
    put_checksum(tcp + 16, sum(ip + 12, 8) + 6 + tcp_len + sum(tcp, tcp_len));
}

/* A request of the peer at 10.1.0.`number`, from which lwIP learns its MAC address. */
static void introduce_peer(unsigned char number) {
    unsigned char request[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8,  6, 0, 1, 8, 0, 6, 4, 0,
                               1, 2, 0, 0, 0, 0, 2, 10, 1, 0, number, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};
    memcpy(frames[0].bytes, request, sizeof request);
    frames[0].len = sizeof request;
    frames[0].pbuf.custom_free_function = reuse;
    frame_count = 1;
    run();
}

static void read_exactly(FILE *file, void *to, size_t len) {
    if (fread(to, 1, len, file) != len)
        fail("the trace is cut off");
}

static uint32_t read_number(FILE *file, size_t bytes) {
    unsigned char number[4] = {0};
    read_exactly(file, number, bytes);
    return number[0] | (uint32_t)number[1] << 8 | (uint32_t)number[2] << 16 | (uint32_t)number[3] << 24;
}

/* Reads the rest of a step. */
static void read_step(FILE *file, uint32_t connections) {
    frame_count = read_number(file, 1);
    for (unsigned at = 0; at < frame_count; at++) {
        struct frame *frame = &frames[at];
        frame->connection = read_number(file, 4);
        frame->len = (uint16_t)read_number(file, 2);
        if (frame->connection >= connections || frame->len < TCP_AT + 20 || frame->len > FRAME)
            fail("a frame of the trace is out of range");
        read_exactly(file, frame->bytes, frame->len);
        frame->pbuf.custom_free_function = reuse;
    }
}

static void play(FILE *file, uint64_t steps) {
    uint32_t connections = read_number(file, 4);
    uint32_t *initial_seq = calloc(connections, sizeof *initial_seq);
    uint64_t count = 0, segments = 0, replies = 0, bytes = 0;
    int kind;
    if (initial_seq == NULL)
        fail("out of memory");
    (void)read_number(file, 4);
    while ((kind = getc(file)) != EOF) {
        read_step(file, connections);
        if (frame_count == 0 || kind > COUNTED)
            fail("a step of the trace is out of range");
        if (kind == COUNTED && count == steps)
            break;
        for (unsigned at = 0; at < frame_count; at++)
            rebase(&frames[at], initial_seq[frames[at].connection]);
        uint64_t before = sent, bytes_before = sent_bytes;
        int is_syn = frames[0].bytes[TCP_AT + 13] & SYN;
        is_kept = is_syn;
        if (kind == COUNTED) {
            counted();
            count++;
            segments += frame_count;
            replies += sent - before;
            bytes += sent_bytes - bytes_before;
        } else if (is_syn) {
            run_aside();
        } else {
            run();
        }
        if (is_syn) {
            if (sent != before + 1)
                fail("a SYN was not answered");
            initial_seq[frames[0].connection] = word(latest + TCP_AT + 4);
        }
    }
    printf("%" PRIu64 " steps, %" PRIu64 " segments, %" PRIu64 " replies of %" PRIu64 " bytes\n",
           count, segments, replies, bytes);
}

int main(int count, char **arguments) {
    ip4_addr_t address, mask, gateway;
    char magic[8];
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (file == NULL)
        fail("usage: player TRACE STEPS");
    read_exactly(file, magic, sizeof magic);
    if (memcmp(magic, "IXTRACE1", sizeof magic) != 0)
        fail("this is no trace");
    lwip_init();
    IP4_ADDR(&address, 10, 0, 0, 2);
    IP4_ADDR(&mask, 255, 0, 0, 0);
    IP4_ADDR(&gateway, 0, 0, 0, 0);
    if (netif_add(&netif, &address, &mask, &gateway, NULL, set_up_nic, ethernet_input) == NULL)
        fail("cannot add the interface");
    netif_set_default(&netif);
    netif_set_up(&netif);
    introduce_peer(0);
    introduce_peer(1);
    serve();
    play(file, strtoull(arguments[2], NULL, 10));
    fclose(file);
    return 0;
}
