/* The local training loop of `client_sdk.task.train` for the two-layer CNN, as machine code.
 *
 * Backwards, a pooling hands its gradient to one of four places and a closed ReLU to none: only
 * what gets one is multiplied. The shapes are constants, given by the compiler's command line
 * (client_sdk/task/compiled/native.py): CHANNELS HEIGHT WIDTH CONV1 CONV2 KERNEL PADDING HIDDEN CLASSES.
 * It is held against the readable loop by the tests, and on every machine before it is used.
 */
#include <math.h>
#include <stdlib.h>

/* The preprocessor counts in 64 bits, so none of these products wraps around, as an int would. */
#define SIZE(n) ((n) >= 1 && (n) <= 8192)
#if !(SIZE(CHANNELS) && SIZE(HEIGHT) && SIZE(WIDTH) && SIZE(CONV1) && SIZE(CONV2) \
      && SIZE(KERNEL) && SIZE(PADDING + 1) && SIZE(HIDDEN) && SIZE(CLASSES))
#error "a size of the network is not between 1 and 8192"
#endif
#define PIXELS ((HEIGHT + 2 * PADDING) * (WIDTH + 2 * PADDING))
#define FILLED(n) ((n) + 16)  /* whole vectors of at most 16 */
#if PIXELS * (CHANNELS + FILLED(CONV1) + FILLED(CONV2)) > 1 << 25 \
    || KERNEL * KERNEL * FILLED(CONV1) * (FILLED(CONV2) + FILLED(CHANNELS)) > 1 << 25 \
    || HIDDEN * (PIXELS / 4 * FILLED(CONV2) + 32) > 1 << 29 \
    || CLASSES * FILLED(HIDDEN) > 1 << 25
#error "the network is too large for the compiled loop"
#endif

#include "layers.h"

enum {
    H0 = HEIGHT + 2 * PADDING, W0 = WIDTH + 2 * PADDING,  /* the image with its zero border */
    H1 = (H0 - KERNEL + 1) / 2, W1 = (W0 - KERNEL + 1) / 2,  /* after the first pooling */
    P1 = H1 + 2 * PADDING, Q1 = W1 + 2 * PADDING,  /* ... with its zero border */
    H2 = (P1 - KERNEL + 1) / 2, W2 = (Q1 - KERNEL + 1) / 2,  /* after the second */
    AREA = KERNEL * KERNEL,
    SPAN = (KERNEL + 3) / 4 * 4,  /* floats that are copied for a kernel's row */
    PATCH = UP(CHANNELS * AREA), C1 = UP(CONV1), C2 = UP(CONV2), FLAT = H2 * W2 * C2,
    WIDE = ((FLAT + 15) / 16 | 1) * 16,  /* an odd number of cache lines: rows do not share sets */
    UNITS = UP(HIDDEN), OUT = UP(CLASSES),
    INSIDE = PADDING * Q1 + PADDING,  /* the first pixel that is not border */
    PARAMETERS = CONV1 * (CHANNELS * AREA + 1) + CONV2 * (CONV1 * AREA + 1)
        + HIDDEN * (CONV2 * H2 * W2 + 1) + CLASSES * (HIDDEN + 1),
    /* In vectors, and how much of it goes through a loop together. */
    V1 = C1 / LANES, V2 = C2 / LANES, VP = PATCH / LANES, VF = FLAT / LANES, VU = UNITS / LANES,
    BLOCK1 = BLOCK(V1, FREE / 5), BLOCK2 = BLOCK(V2, FREE / 5),
    LINE = BLOCK(V1, FREE / KERNEL), LINES = BLOCK(KERNEL, FREE / (KERNEL * LINE)),
    FEW = BLOCK(CONV2, FREE / (LINES * KERNEL * LINE)),
    PART = BLOCK(VP, FREE / 2), FEW_PARTS = BLOCK(CONV1, FREE / PART),
    DENSE = REGISTERS / 8,
    GROUP = 8,  /* images that go forwards and backwards together */
};

/* What lies after a row's last number is never read as a number of another row. */
typedef struct {
    ALIGNED float w1[CONV1 * PATCH];  /* [out][in][row][column] */
    ALIGNED float b1[C1];
    ALIGNED float w2[CONV2 * AREA * C1];  /* [out][row][column][in] */
    ALIGNED float b2[C2];
} Convs;

typedef struct {
    Convs convs;
    ALIGNED float w3[HIDDEN * WIDE];  /* [out][row][column][channel] */
    ALIGNED float b3[UNITS];
    ALIGNED float w4[CLASSES * UNITS];
    ALIGNED float b4[OUT];
} Net;

typedef struct {
    ALIGNED float one[P1 * Q1 * C1];
    ALIGNED int32_t one_at[H1 * W1 * C1];
    ALIGNED int32_t two_at[FLAT];
} Image;

typedef struct {
    Net parameters, momenta;
    Convs gradients;
    ALIGNED float w1[CHANNELS * AREA * C1];  /* weights as `conv` has them */
    ALIGNED float w2[AREA * CONV1 * C2];
    ALIGNED float patches[2 * 2 * W1 * PATCH + SPAN];
    ALIGNED float d_one[P1 * Q1 * C1];
    ALIGNED float d_two[(GROUP + IMAGES) * WIDE];
    Image images[GROUP];
    float pixels[CHANNELS * H0 * W0 + SPAN];
    int w2_endless;
    uint16_t lists[CLOSED + 1][CONV2];  /* channels by their pooling's argument */
    ALIGNED float rows[];  /* a batch in the dense layers, an image a row */
} Work;

/* The functions of a step are compiled one by one: a compiler that sees them all runs out of
 * registers. */
#define ALONE static __attribute__((noinline))

/* A layer's parameters between PyTorch's [outs][ins][area] and our [outs][area][ins], filled up. */
INLINE float *move(float *flat, float *ours, int outs, int ins, int area, int plane, int pitch,
                   int back)
{
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < ins; i++)
            for (int t = 0; t < area; t++, flat++) {
                float *mine = ours + o * pitch + t * plane + i;
                if (back) *flat = *mine;
                else *mine = *flat;
            }
    return flat;
}

ALONE void move_all(float *flat, Net *n, int back)
{
    flat = move(flat, n->convs.w1, CONV1, CHANNELS * AREA, 1, 0, PATCH, back);
    flat = move(flat, n->convs.b1, 1, CONV1, 1, 0, 0, back);
    flat = move(flat, n->convs.w2, CONV2, CONV1, AREA, C1, AREA * C1, back);
    flat = move(flat, n->convs.b2, 1, CONV2, 1, 0, 0, back);
    flat = move(flat, n->w3, HIDDEN, CONV2, H2 * W2, C2, WIDE, back);
    flat = move(flat, n->b3, 1, HIDDEN, 1, 0, 0, back);
    flat = move(flat, n->w4, CLASSES, HIDDEN, 1, 0, UNITS, back);
    move(flat, n->b4, 1, CLASSES, 1, 0, 0, back);
}

ALONE void pack(Work *k)
{
    enum { N1 = BLOCK1 * LANES, N2 = BLOCK2 * LANES };
    const Convs *p = &k->parameters.convs;
    for (int o = 0; o < CONV1; o++)
        for (int i = 0; i < CHANNELS; i++)
            for (int t = 0; t < AREA; t++)
                k->w1[((o / N1 * AREA + t) * CHANNELS + i) * N1 + o % N1]
                    = p->w1[o * PATCH + i * AREA + t];
    for (int o = 0; o < CONV2; o++)
        for (int t = 0; t < AREA; t++)
            for (int i = 0; i < CONV1; i++)
                k->w2[((o / N2 * AREA + t) * CONV1 + i) * N2 + o % N2]
                    = p->w2[(o * AREA + t) * C1 + i];
    k->w2_endless = endless(p->w2, CONV2 * AREA * C1);
}

static void load(Work *k, const float *image)
{
    for (int c = 0; c < CHANNELS; c++)
        for (int y = 0; y < HEIGHT; y++, image += WIDTH)
            memcpy(k->pixels + (c * H0 + y + PADDING) * W0 + PADDING, image, WIDTH * sizeof(float));
}

ALONE void conv1(Work *k, Image *at)
{
    conv(k->pixels, W0, 1, H0 * W0, CHANNELS, (vec *)k->w1, (vec *)k->parameters.convs.b1, V1,
         BLOCK1, H1, W1, (vec *)at->one + INSIDE * V1, Q1, (mask *)at->one_at);
}

ALONE void conv2(Work *k, Image *at, float *two)
{
    conv(at->one, Q1, C1, 1, CONV1, (vec *)k->w2, (vec *)k->parameters.convs.b2, V2, BLOCK2, H2, W2,
         (vec *)two, W2, (mask *)at->two_at);
}

ALONE void dense1(const Net *p, const float *two, int images, float *hidden)
{
    dense(two, WIDE, images, p->w3, p->b3, HIDDEN, BLOCK(HIDDEN, DENSE), VF, hidden, UNITS);
    vec *h = (vec *)hidden;
    for (int i = 0; i < images * VU; i++) h[i] = keep(opened(h[i]), h[i]);
}

ALONE void dense2(const Net *p, const float *hidden, int images, float *logits)
{
    dense(hidden, UNITS, images, p->w4, p->b4, CLASSES, BLOCK(CLASSES, DENSE), VU, logits, OUT);
}

/* Softmax and cross-entropy: logits become their gradients of the batch's mean; the loss. */
static double loss(float *logits, int64_t label, float batch)
{
    float most = logits[0], all_exp = 0, right = logits[label];
    for (int j = 1; j < CLASSES; j++) most = logits[j] > most ? logits[j] : most;
    for (int j = 0; j < CLASSES; j++) all_exp += logits[j] = expf(logits[j] - most);
    for (int j = 0; j < CLASSES; j++) logits[j] = (logits[j] / all_exp - (j == label)) / batch;
    return logf(all_exp) + most - right;
}

ALONE void dense2_input(const Net *p, const float *logits, int images, const float *hidden,
                        float *out)
{
    dense_input(logits, OUT, images, p->w4, CLASSES, VU, BLOCK(VU, DENSE), out, UNITS);
    const vec *h = (const vec *)hidden;
    vec *d = (vec *)out;
    for (int i = 0; i < images * VU; i++) d[i] = keep(opened(h[i]), d[i]);
}

ALONE void dense1_input(const Net *p, const float *d_hidden, int images, float *d_two)
{
    dense_input(d_hidden, UNITS, images, p->w3, HIDDEN, VF, BLOCK(VF, DENSE), d_two, WIDE);
}

ALONE void conv2_weights(Work *k, const Image *at, const float *d)
{
    conv_weights((vec *)at->one, Q1, KERNEL, V1, d, at->two_at, C2, CONV2, H2, W2, LINE, LINES, FEW,
                 (vec *)k->gradients.w2);
}

/* The gradient of the second convolution's input: of each place, what channels got one there. */
ALONE void conv2_input(Work *k, const float *d, const int32_t *at)
{
    memset(k->d_one, 0, sizeof k->d_one);
    for (int c = 0; c < H2 * W2; c++, d += C2, at += C2) {
        int count[CLOSED + 1] = {0};
        for (int o = 0; o < CONV2; o++) k->lists[at[o]][count[at[o]]++] = o;
        for (int j = 0; j < CLOSED; j++)
            for (int ky = 0; ky < KERNEL; ky += LINES)
                for (int v = 0; v < V1; v += LINE) {
                    int y = c / W2 * 2 + j / 2 + ky, x = c % W2 * 2 + j % 2;
                    const vec *w = (const vec *)k->parameters.convs.w2 + ky * KERNEL * V1 + v;
                    vec *to = (vec *)k->d_one + (y * Q1 + x) * V1 + v, sums[SUMS][LINE] = {0};
                    for (int e = 0; e < count[j]; e++) {
                        int o = k->lists[j][e];
                        for (int t = 0; t < LINES * KERNEL; t++)
                            for (int b = 0; b < LINE; b++)
                                sums[t][b] += d[o] * w[(o * AREA + t) * V1 + b];
                    }
                    for (int t = 0; t < LINES * KERNEL; t++)
                        for (int b = 0; b < LINE; b++)
                            to[(t / KERNEL * Q1 + t % KERNEL) * V1 + b] += sums[t][b];
                }
    }
}

/* The pixels [in][row][column] that each of two rows' sums are made of. */
static void cut(Work *k, int row)
{
    float *to = k->patches;
    for (int y = row; y < row + 2; y++)
        for (int x = 0; x < 2 * W1; x++, to += PATCH)
            for (int c = 0; c < CHANNELS; c++)
                for (int ky = 0; ky < KERNEL; ky++)  /* too much, which the next ones overwrite */
                    memcpy(to + (c * KERNEL + ky) * KERNEL, k->pixels + (c * H0 + y + ky) * W0 + x,
                           SPAN * sizeof(float));
}

ALONE void conv1_weights(Work *k, const Image *at, const float *d)
{
    for (int y = 0; y < H1; y++) {
        cut(k, 2 * y);
        conv_weights((vec *)k->patches, 2 * W1, 1, VP, d + y * Q1 * C1, at->one_at + y * W1 * C1,
                     C1, CONV1, 1, W1, PART, 1, FEW_PARTS, (vec *)k->gradients.w1);
    }
}

static void fill(float *values, int count, float with)
{
    for (int i = 0; i < count; i++) values[i] = with;
}

/* The convolutions multiply only what has a gradient. PyTorch multiplies the zeros as well, and
 * zero times infinity is NaN: then the whole gradient is NaN here, too. */
static void backwards(Work *k, const Image *at, float *d_two)
{
    Convs *g = &k->gradients;
    float *d_one = k->d_one + INSIDE * C1;
    close_relu((vec *)d_two, W2 * V2, (mask *)at->two_at, V2, H2, W2, (vec *)g->b2);
    conv2_weights(k, at, d_two);
    conv2_input(k, d_two, at->two_at);
    if (endless(k->pixels, CHANNELS * H0 * W0)) fill(g->w1, CONV1 * PATCH, NAN);
    if (endless(at->one, P1 * Q1 * C1)) fill(g->w2, CONV2 * AREA * C1, NAN);
    if (k->w2_endless) fill(k->d_one, P1 * Q1 * C1, NAN);
    close_relu((vec *)d_one, Q1 * V1, (mask *)at->one_at, V1, H1, W1, (vec *)g->b1);
    conv1_weights(k, at, d_one);
}

ALONE void step_all(Work *k, const float *d_hidden, const float *two, const float *logits,
                    const float *hidden, int images, Sgd sgd)
{
    Net *p = &k->parameters;
    const int apart = sizeof(Net) / sizeof(float);
    dense_step(d_hidden, UNITS, two, WIDE, images, HIDDEN, BLOCK(HIDDEN, DENSE), VF, BLOCK(VF, 4),
               p->w3, p->b3, apart, sgd);
    dense_step(logits, OUT, hidden, UNITS, images, CLASSES, BLOCK(CLASSES, DENSE), VU, BLOCK(VU, 4),
               p->w4, p->b4, apart, sgd);
    for (int i = 0; i < (int)(sizeof(Convs) / sizeof(vec)); i++)
        step((vec *)p + i, (vec *)&k->momenta + i, ((vec *)&k->gradients)[i], sgd);
}

/* What `epoch` gives in place of a loss. */
enum {
    NO_MEMORY = -1,
    BAD_POINTER = -2,  /* none, or not at a place for its type */
    BAD_COUNT = -3,
    BAD_BATCH = -4,
    BAD_RATE = -5,
    BAD_MOMENTUM = -6,
    BAD_LABEL = -7,
    BAD_ORDER = -8,
    BAD_DECAY = -9,
};

static int usable(const void *pointer, size_t alignment)
{
    return pointer && (uintptr_t)pointer % alignment == 0;
}

/* The fault of the arguments, or 0. A comparison with NaN is false. */
static int fault(const float *parameters, const float *momenta, const float *x, const int64_t *y,
                 const int64_t *order, int64_t n, int64_t batch, Sgd sgd)
{
    if (!usable(parameters, sizeof(float)) || !usable(momenta, sizeof(float))
        || !usable(x, sizeof(float)) || !usable(y, sizeof(int64_t))
        || !usable(order, sizeof(int64_t)))
        return BAD_POINTER;
    int64_t bytes;
    if (n < 1 || n > INT32_MAX
        || __builtin_mul_overflow(n, (int64_t)CHANNELS * HEIGHT * WIDTH * sizeof(float), &bytes))
        return BAD_COUNT;
    if (batch < 1) return BAD_BATCH;
    if (!(sgd.rate >= 0 && sgd.rate <= 1000)) return BAD_RATE;
    if (!(sgd.momentum >= 0 && sgd.momentum <= 1)) return BAD_MOMENTUM;
    if (!(sgd.decay >= 0 && sgd.decay <= 10)) return BAD_DECAY;
    for (int64_t i = 0; i < n; i++) {
        if (y[i] < 0 || y[i] >= CLASSES) return BAD_LABEL;
        if (order[i] < 0 || order[i] >= n) return BAD_ORDER;
    }
    return 0;
}

/* An epoch of SGD with momentum and weight decay over images x [n][CHANNELS][HEIGHT][WIDTH] and labels y [n] in
 * `order` [n]. Changes parameters and momenta [PARAMETERS]; gives the summed loss, or one of the
 * faults above, which are negative as no loss is, and then nothing is changed. */
double epoch_with_decay(float *parameters, float *momenta, const float *x, const int64_t *y,
                        const int64_t *order, int64_t n, int64_t batch, float rate, float momentum,
                        float decay)
{
    Sgd sgd = {rate, momentum, decay};
    int found = fault(parameters, momenta, x, y, order, n, batch, sgd);
    if (found) return found;
    if (batch > n) batch = n;
    Work *k;
    size_t rows = (size_t)batch + IMAGES, bytes;
    if (__builtin_mul_overflow(rows, (WIDE + 2 * UNITS + OUT) * sizeof(float), &bytes)
        || __builtin_add_overflow(bytes, sizeof *k, &bytes)
        || posix_memalign((void **)&k, 64, bytes))
        return NO_MEMORY;
    memset(k, 0, bytes);
    float *all_two = k->rows, *all_hidden = all_two + rows * WIDE;
    float *all_d_hidden = all_hidden + rows * UNITS, *all_logits = all_d_hidden + rows * UNITS;
    const Net *p = &k->parameters;
    move_all(parameters, &k->parameters, 0);
    move_all(momenta, &k->momenta, 0);
    double sum = 0;
    for (int64_t start = 0; start < n; start += batch) {
        int64_t size = n - start < batch ? n - start : batch;
        pack(k);
        memset(&k->gradients, 0, sizeof k->gradients);
        for (int64_t first = 0; first < size; first += GROUP) {
            int images = size - first < GROUP ? size - first : GROUP;
            const int64_t *which = order + start + first;
            float *two = all_two + first * WIDE, *hidden = all_hidden + first * UNITS;
            float *d_hidden = all_d_hidden + first * UNITS, *logits = all_logits + first * OUT;
            for (int b = 0; b < images; b++) {
                load(k, x + which[b] * CHANNELS * HEIGHT * WIDTH);
                conv1(k, k->images + b);
                conv2(k, k->images + b, two + b * WIDE);
            }
            dense1(p, two, images, hidden);
            dense2(p, hidden, images, logits);
            for (int b = 0; b < images; b++) sum += loss(logits + b * OUT, y[which[b]], size);
            dense2_input(p, logits, images, hidden, d_hidden);
            dense1_input(p, d_hidden, images, k->d_two);
            for (int b = 0; b < images; b++) {
                load(k, x + which[b] * CHANNELS * HEIGHT * WIDTH);
                backwards(k, k->images + b, k->d_two + b * WIDE);
            }
        }
        step_all(k, all_d_hidden, all_two, all_logits, all_hidden, size, sgd);
    }
    move_all(parameters, &k->parameters, 1);
    move_all(momenta, &k->momenta, 1);
    free(k);
    return sum;
}

double epoch(float *parameters, float *momenta, const float *x, const int64_t *y,
             const int64_t *order, int64_t n, int64_t batch, float rate, float momentum)
{
    return epoch_with_decay(parameters, momenta, x, y, order, n, batch, rate, momentum, 0);
}
