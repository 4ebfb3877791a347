/* The local training loop of `client_sdk.train` for the two-layer CNN, as machine code.
 *
 * A vector holds the same number of LANES images, so every layer is plain arithmetic on vectors
 * whatever its width; a convolution, its bias, the 2x2 pooling and the ReLU are one pass that keeps
 * its sums in registers. The shapes are constants, given by the compiler's command line
 * (client_sdk/native.py): CHANNELS HEIGHT WIDTH CONV1 CONV2 KERNEL PADDING HIDDEN CLASSES.
 * It is held against the readable loop by the tests, and on every machine before it is used.
 *
 * Activations are [channel][row][column] of vectors. Weights are PyTorch's: convolutions
 * [out][in][row][column], dense layers [out][in], each followed by its bias, layer after layer.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512VL__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))

enum {
    H0 = HEIGHT + 2 * PADDING, W0 = WIDTH + 2 * PADDING,  /* the image with its zero border */
    H1 = (H0 - KERNEL + 1) / 2, W1 = (W0 - KERNEL + 1) / 2,  /* after the first pooling */
    P1 = H1 + 2 * PADDING, Q1 = W1 + 2 * PADDING,  /* ... with its zero border */
    H2 = (P1 - KERNEL + 1) / 2, W2 = (Q1 - KERNEL + 1) / 2,  /* after the second */
    FLAT = CONV2 * H2 * W2,
    AREA = KERNEL * KERNEL,
    PITCH = (FLAT + LANES - 1) / LANES * LANES,  /* floats from image to image, in rows */
    EDGE = KERNEL,  /* zero columns beside a gradient: conv_input reads so far over its end */
    CLOSED = 4,  /* in place of a pooling's argument: the ReLU let nothing through */
    PARAMETERS = CONV1 * (CHANNELS * AREA + 1) + CONV2 * (CONV1 * AREA + 1)
        + HIDDEN * (FLAT + 1) + CLASSES * (HIDDEN + 1),
};

/* The largest divisor of n that is at most cap: how many channels go through a loop together. */
#define TRY(n, cap, d) (cap) >= d && (n) % d == 0 ? d
#define BLOCK(n, cap) \
    (TRY(n, cap, 12) : TRY(n, cap, 10) : TRY(n, cap, 8) : TRY(n, cap, 6) : TRY(n, cap, 5) \
     : TRY(n, cap, 4) : TRY(n, cap, 3) : TRY(n, cap, 2) : 1)
enum {
    FREE = REGISTERS - 2,
    POOL_CAP = (FREE - 4) / 4,
    WEIGHTS_CAP = FREE / (KERNEL + 1),
    INPUT_CAP = (FREE - 2) / 2,
    DENSE_CAP = FREE / 2,
    MOST = 12,
};

typedef struct {
    vec image[CHANNELS * H0 * W0];
    vec one[CONV1 * P1 * Q1];
    vec two[FLAT], hidden[HIDDEN], logits[CLASSES];
    mask one_at[CONV1 * H1 * W1], two_at[FLAT];
    vec d_hidden[HIDDEN], d_two[FLAT], d_one[CONV1 * H1 * (W1 + 1)];
    vec d_conv2[CONV2 * 2 * H2 * (2 * W2 + 2 * EDGE)], d_conv1[CONV1 * 2 * H1 * 2 * W1];
    struct {  /* sums over a batch, a lane each */
        vec w1[CONV1 * CHANNELS * AREA], b1[CONV1], w2[CONV2 * CONV1 * AREA], b2[CONV2];
    } sums;
    /* Weights with the channels that are used together side by side. */
    float w1[CHANNELS * AREA * CONV1], w2[CONV1 * AREA * CONV2], w2_back[CONV2 * AREA * CONV1];
    float gradients[PARAMETERS];
    float rows[];  /* a batch's activations and gradients of the dense layers, an image a row */
} Work;

typedef struct {
    float *w1, *b1, *w2, *b2, *w3, *b3, *w4, *b4;
} Net;

static Net net_of(float *p)
{
    Net n;
    n.w1 = p, n.b1 = n.w1 + CONV1 * CHANNELS * AREA;
    n.w2 = n.b1 + CONV1, n.b2 = n.w2 + CONV2 * CONV1 * AREA;
    n.w3 = n.b2 + CONV2, n.b3 = n.w3 + HIDDEN * FLAT;
    n.w4 = n.b3 + HIDDEN, n.b4 = n.w4 + CLASSES * HIDDEN;
    return n;
}

INLINE vec all(float value) { return value - (vec){0}; }
INLINE vec keep(mask where, vec v) { return (vec)((mask)v & where); }

INLINE float total(vec v)
{
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += v[l];
    return sum;
}

/* relu(max_pool2d(conv2d(in))); `at` is where each maximum was, the first of equal ones. */
INLINE void conv_pool(const vec *in, int ins, int in_h, int in_w, const float *w, const float *bias,
                      int outs, int block, int h, int wide, vec *out, int pitch, int plane, mask *at)
{
    for (int first = 0; first < outs; first += block)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < wide; x++) {
                vec sums[MOST][4];
                for (int c = 0; c < block; c++)
                    for (int k = 0; k < 4; k++) sums[c][k] = all(bias[first + c]);
                for (int i = 0; i < ins; i++)
                    for (int ky = 0; ky < KERNEL; ky++) {
                        const vec *p = in + (i * in_h + 2 * y + ky) * in_w + 2 * x;
                        const float *q = w + (i * KERNEL + ky) * KERNEL * outs + first;
                        for (int kx = 0; kx < KERNEL; kx++, p++, q += outs) {
                            vec near[4] = {p[0], p[1], p[in_w], p[in_w + 1]};
                            for (int c = 0; c < block; c++)
                                for (int k = 0; k < 4; k++) sums[c][k] += q[c] * near[k];
                        }
                    }
                for (int c = 0; c < block; c++) {
                    vec most = sums[c][0];
                    mask where = {0};
                    for (int k = 1; k < 4; k++) {
                        mask more = sums[c][k] > most;
                        most = (vec)(((mask)sums[c][k] & more) | ((mask)most & ~more));
                        where = (more & k) | (where & ~more);
                    }
                    mask open = most > 0;
                    out[(first + c) * plane + y * pitch + x] = keep(open, most);
                    at[((first + c) * h + y) * wide + x] = (where & open) | (CLOSED & ~open);
                }
            }
}

/* Back through ReLU and pooling: each gradient goes to where its maximum was, the rest is zero. */
INLINE void unpool(const vec *in, int pitch, const mask *at, int channels, int h, int wide, vec *out,
                   int edge, vec *bias)
{
    int row = 2 * wide + 2 * edge;
    for (int c = 0; c < channels; c++) {
        vec sum = {0};
        for (int y = 0; y < h; y++)
            for (int x = 0; x < wide; x++) {
                vec v = in[(c * h + y) * pitch + x];
                mask where = at[(c * h + y) * wide + x];
                vec *o = out + (c * 2 * h + 2 * y) * row + edge + 2 * x;
                o[0] = keep(where == 0, v);
                o[1] = keep(where == 1, v);
                o[row] = keep(where == 2, v);
                o[row + 1] = keep(where == 3, v);
                sum += keep(where != CLOSED, v);
            }
        bias[c] += sum;
    }
}

/* The gradient of a convolution's weights, of its input and the gradient d [outs][h][wide]. */
INLINE void conv_weights(const vec *in, int ins, int in_h, int in_w, const vec *d, int outs,
                         int block, int h, int wide, int edge, vec *out)
{
    int row = wide + 2 * edge;
    for (int first = 0; first < outs; first += block)
        for (int i = 0; i < ins; i++)
            for (int ky = 0; ky < KERNEL; ky++) {
                vec sums[MOST][KERNEL] = {0};
                for (int y = 0; y < h; y++) {
                    const vec *p = in + (i * in_h + y + ky) * in_w;
                    const vec *q = d + (first * h + y) * row + edge;
                    for (int x = 0; x < wide; x++, p++, q++)
                        for (int k = 0; k < KERNEL; k++)
                            for (int c = 0; c < block; c++) sums[c][k] += q[c * h * row] * p[k];
                }
                for (int c = 0; c < block; c++)
                    for (int k = 0; k < KERNEL; k++)
                        out[(((first + c) * ins + i) * KERNEL + ky) * KERNEL + k] += sums[c][k];
            }
}

/* The gradient of a convolution's input, without its border; rows of `out` have one more vector. */
INLINE void conv_input(const vec *d, int outs, int d_h, int d_w, const float *w, int ins, int block,
                       int h, int wide, vec *out)
{
    int row = d_w + 2 * EDGE;
    for (int first = 0; first < ins; first += block)
        for (int y = PADDING; y < h + PADDING; y++)
            for (int x = PADDING; x < wide + PADDING; x += 2) {
                /* Of the kernel, only what meets the gradient; beside it lie zeros. */
                int top = y - d_h + 1 > 0 ? y - d_h + 1 : 0, bottom = y < KERNEL ? y : KERNEL - 1;
                int left = x - d_w + 1 > 0 ? x - d_w + 1 : 0;
                int right = x + 1 < KERNEL ? x + 1 : KERNEL - 1;
                vec sums[MOST][2] = {0};
                for (int o = 0; o < outs; o++)
                    for (int ky = top; ky <= bottom; ky++) {
                        const vec *p = d + (o * d_h + y - ky) * row + EDGE + x;
                        const float *q = w + (o * KERNEL + ky) * KERNEL * ins + first;
                        for (int kx = left; kx <= right; kx++) {
                            vec near[2] = {p[-kx], p[1 - kx]};
                            for (int c = 0; c < block; c++)
                                for (int k = 0; k < 2; k++)
                                    sums[c][k] += q[kx * ins + c] * near[k];
                        }
                    }
                vec *o = out + (first * h + y - PADDING) * (wide + 1) + x - PADDING;
                for (int c = 0; c < block; c++, o += h * (wide + 1))
                    for (int k = 0; k < 2; k++) o[k] = sums[c][k];
            }
}

INLINE void dense(const vec *in, int ins, const float *w, const float *bias, int outs, int block,
                  vec *out)
{
    for (int first = 0; first < outs; first += block) {
        vec sums[MOST];
        for (int c = 0; c < block; c++) sums[c] = all(bias[first + c]);
        for (int i = 0; i < ins; i++)
            for (int c = 0; c < block; c++) sums[c] += w[(first + c) * ins + i] * in[i];
        for (int c = 0; c < block; c++) out[first + c] = sums[c];
    }
}

INLINE void dense_input(const vec *d, int outs, const float *w, int ins, int block, vec *out)
{
    for (int first = 0; first < ins; first += block) {
        vec sums[MOST] = {0};
        for (int o = 0; o < outs; o++)
            for (int c = 0; c < block; c++) sums[c] += w[o * ins + first + c] * d[o];
        for (int c = 0; c < block; c++) out[first + c] = sums[c];
    }
}

/* The gradient of a dense layer's weights and bias, of rows: d [images][outs], in [images][pitch]. */
INLINE void dense_weights(const float *d, const float *in, int pitch, int images, int outs,
                          int block, int ins, float *w, float *bias)
{
    for (int first = 0; first < outs; first += block) {
        for (int i = 0; i < ins; i += 2 * LANES) {
            int half = i + LANES < ins;
            vec sums[MOST][2] = {0};
            for (int b = 0; b < images; b++) {
                vec near[2] = {0};
                memcpy(near, in + b * pitch + i, sizeof(vec));
                if (half) memcpy(near + 1, in + b * pitch + i + LANES, sizeof(vec));
                for (int c = 0; c < block; c++)
                    for (int k = 0; k < 2; k++) sums[c][k] += d[b * outs + first + c] * near[k];
            }
            int floats = ins - i < 2 * LANES ? ins - i : 2 * LANES;
            for (int c = 0; c < block; c++)
                memcpy(w + (first + c) * ins + i, sums[c], floats * sizeof(float));
        }
        for (int c = 0; c < block; c++) {
            float sum = 0;
            for (int b = 0; b < images; b++) sum += d[b * outs + first + c];
            bias[first + c] = sum;
        }
    }
}

static void pack(Work *k, Net p)
{
    for (int o = 0; o < CONV1; o++)
        for (int i = 0; i < CHANNELS * AREA; i++)
            k->w1[i * CONV1 + o] = p.w1[o * CHANNELS * AREA + i];
    for (int o = 0; o < CONV2; o++)
        for (int i = 0; i < CONV1; i++)
            for (int t = 0; t < AREA; t++) {
                float w = p.w2[(o * CONV1 + i) * AREA + t];
                k->w2[(i * AREA + t) * CONV2 + o] = w;
                k->w2_back[(o * AREA + t) * CONV1 + i] = w;
            }
}

/* Images into lanes; a lane without one is zero, and so is all that comes of it backwards. */
static void load(Work *k, const float *x, const int64_t *rows, int lanes)
{
    for (int l = 0; l < LANES; l++) {
        const float *image = x + (l < lanes ? rows[l] : rows[0]) * CHANNELS * HEIGHT * WIDTH;
        for (int c = 0; c < CHANNELS; c++)
            for (int y = 0; y < HEIGHT; y++) {
                float *to = (float *)(k->image + (c * H0 + y + PADDING) * W0 + PADDING) + l;
                for (int i = 0; i < WIDTH; i++, image++) to[i * LANES] = l < lanes ? *image : 0;
            }
    }
}

/* Softmax and cross-entropy: logits become their gradients of the batch's mean; the summed loss. */
static double loss(vec *logits, const int64_t *y, const int64_t *rows, int lanes, float batch)
{
    double sum = 0;
    for (int l = 0; l < LANES; l++) {
        float most = logits[0][l], all_exp = 0;
        int64_t label = l < lanes ? y[rows[l]] : 0;
        float right = logits[label][l];
        for (int j = 1; j < CLASSES; j++) most = logits[j][l] > most ? logits[j][l] : most;
        for (int j = 0; j < CLASSES; j++) all_exp += logits[j][l] = expf(logits[j][l] - most);
        for (int j = 0; j < CLASSES; j++)
            logits[j][l] = l < lanes ? (logits[j][l] / all_exp - (j == label)) / batch : 0;
        if (l < lanes) sum += logf(all_exp) + most - right;
    }
    return sum;
}

/* An epoch of SGD with momentum over images x [N][CHANNELS][HEIGHT][WIDTH] and labels y [N] in
 * `order` [n]. Changes parameters and momenta [PARAMETERS]; gives the summed loss, or -1 where
 * there is no memory. */
double epoch(float *parameters, float *momenta, const float *x, const int64_t *y,
             const int64_t *order, int64_t n, int64_t batch, float rate, float momentum)
{
    Work *k;
    size_t row = PITCH + 2 * HIDDEN + CLASSES + 2 * LANES;
    size_t bytes = sizeof *k + (batch < n ? batch : n) * row * sizeof(float);
    if (posix_memalign((void **)&k, 64, bytes)) return -1;
    memset(k, 0, bytes);
    float *two = k->rows, *hidden, *d_hidden, *d_logits;
    hidden = two + (batch < n ? batch : n) * PITCH;
    d_hidden = hidden + (batch < n ? batch : n) * (HIDDEN + LANES);
    d_logits = d_hidden + (batch < n ? batch : n) * HIDDEN;
    Net p = net_of(parameters), g = net_of(k->gradients);
    double sum = 0;
    for (int64_t start = 0; start < n; start += batch) {
        int size = n - start < batch ? n - start : batch;
        pack(k, p);
        memset(&k->sums, 0, sizeof k->sums);
        for (int at = 0; at < size; at += LANES) {
            int lanes = size - at < LANES ? size - at : LANES;
            const int64_t *rows = order + start + at;
            load(k, x, rows, lanes);
            conv_pool(k->image, CHANNELS, H0, W0, k->w1, p.b1, CONV1, BLOCK(CONV1, POOL_CAP), H1, W1,
                      k->one + PADDING * Q1 + PADDING, Q1, P1 * Q1, k->one_at);
            conv_pool(k->one, CONV1, P1, Q1, k->w2, p.b2, CONV2, BLOCK(CONV2, POOL_CAP), H2, W2,
                      k->two, W2, H2 * W2, k->two_at);
            dense(k->two, FLAT, p.w3, p.b3, HIDDEN, BLOCK(HIDDEN, DENSE_CAP), k->hidden);
            for (int j = 0; j < HIDDEN; j++)
                k->hidden[j] = keep(k->hidden[j] > 0, k->hidden[j]);
            dense(k->hidden, HIDDEN, p.w4, p.b4, CLASSES, BLOCK(CLASSES, DENSE_CAP), k->logits);
            sum += loss(k->logits, y, rows, lanes, size);
            dense_input(k->logits, CLASSES, p.w4, HIDDEN, BLOCK(HIDDEN, DENSE_CAP), k->d_hidden);
            for (int j = 0; j < HIDDEN; j++)
                k->d_hidden[j] = keep(k->hidden[j] > 0, k->d_hidden[j]);
            dense_input(k->d_hidden, HIDDEN, p.w3, FLAT, BLOCK(FLAT, DENSE_CAP), k->d_two);
            unpool(k->d_two, W2, k->two_at, CONV2, H2, W2, k->d_conv2, EDGE, k->sums.b2);
            conv_weights(k->one, CONV1, P1, Q1, k->d_conv2, CONV2, BLOCK(CONV2, WEIGHTS_CAP),
                         2 * H2, 2 * W2, EDGE, k->sums.w2);
            conv_input(k->d_conv2, CONV2, 2 * H2, 2 * W2, k->w2_back, CONV1,
                       BLOCK(CONV1, INPUT_CAP), H1, W1, k->d_one);
            unpool(k->d_one, W1 + 1, k->one_at, CONV1, H1, W1, k->d_conv1, 0, k->sums.b1);
            conv_weights(k->image, CHANNELS, H0, W0, k->d_conv1, CONV1, BLOCK(CONV1, WEIGHTS_CAP),
                         2 * H1, 2 * W1, 0, k->sums.w1);
            for (int l = 0; l < lanes; l++) {
                for (int i = 0; i < FLAT; i++) two[(at + l) * PITCH + i] = k->two[i][l];
                for (int j = 0; j < HIDDEN; j++) {
                    hidden[(at + l) * HIDDEN + j] = k->hidden[j][l];
                    d_hidden[(at + l) * HIDDEN + j] = k->d_hidden[j][l];
                }
                for (int j = 0; j < CLASSES; j++)
                    d_logits[(at + l) * CLASSES + j] = k->logits[j][l];
            }
        }
        const vec *s = k->sums.w1;
        for (int i = 0; i < (int)(sizeof k->sums / sizeof(vec)); i++) k->gradients[i] = total(s[i]);
        dense_weights(d_hidden, two, PITCH, size, HIDDEN, BLOCK(HIDDEN, DENSE_CAP), FLAT, g.w3, g.b3);
        dense_weights(d_logits, hidden, HIDDEN, size, CLASSES, BLOCK(CLASSES, DENSE_CAP), HIDDEN,
                      g.w4, g.b4);
        for (int i = 0; i < PARAMETERS; i++) {
            momenta[i] = momentum * momenta[i] + k->gradients[i];
            parameters[i] -= rate * momenta[i];
        }
    }
    free(k);
    return sum;
}
