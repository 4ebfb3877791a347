/* Layers on vectors for `kernel.c`, each in one pass that keeps its sums in registers.
 *
 * A vector holds LANES channels of one image. Activations are [row][column][channel], those of
 * dense layers [image][unit], the last index filled up to whole vectors. Sizes are constants where
 * these functions are called, so the compiler unrolls their inner loops; `block`, `lines` and `few`
 * say how many of something go through a loop together, and divide it.
 */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && CONV1 % 16 == 0 && CONV2 % 16 == 0
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512VL__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define ALIGNED _Alignas(64)
#define UP(n) (((n) + LANES - 1) / LANES * LANES)

/* The largest divisor of n that is at most cap. */
#define TRY(n, cap, d) (cap) >= d && (n) % d == 0 ? d
#define BLOCK(n, cap) \
    (TRY(n, cap, 8) : TRY(n, cap, 7) : TRY(n, cap, 6) : TRY(n, cap, 5) : TRY(n, cap, 4) \
     : TRY(n, cap, 3) : TRY(n, cap, 2) : 1)
enum {
    MOST = 8,
    FREE = REGISTERS - REGISTERS / 8,  /* registers for sums */
    SUMS = KERNEL > FREE ? KERNEL : FREE,
    IMAGES = 4,  /* at a time in a dense layer */
    CHUNK = 1024 / LANES,  /* vectors of a dense layer's row, of which IMAGES stay in the cache */
    CLOSED = 4,  /* in place of a pooling's argument: the ReLU let nothing through */
};

/* A vector that is used several times: gcc would load it from memory every time. */
INLINE vec held(vec v)
{
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

INLINE vec keep(mask where, vec v) { return (vec)((mask)v & where); }

INLINE float total(vec v)
{
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += v[l];
    return sum;
}

/* What a ReLU lets through. NaN, too, as in PyTorch: a training that diverges must not look sound. */
INLINE mask opened(vec v) { return ~(v <= 0); }

/* Whether any of the values is infinite or NaN. */
typedef int32_t bits __attribute__((may_alias));
INLINE int endless(const float *values, int count)
{
    const int32_t exponent = 0x7f800000;
    int found = 0;
    for (int i = 0; i < count; i++) found |= (((const bits *)values)[i] & exponent) == exponent;
    return found;
}

/* relu(max_pool2d(conv2d(in))) of `tile` windows in a row and `block` vectors of channels; `at` is
 * where each maximum was, the first of equal ones; NaN is larger than any number. A pixel is `pitch` floats from the next one, a
 * channel `plane`. */
INLINE void conv_tile(const float *in, int in_w, int pitch, int plane, int ins, const vec *w,
                      const vec *bias, int block, int tile, int vecs, vec *out, mask *at)
{
    vec sums[2][4][MOST];
    for (int t = 0; t < tile; t++)
        for (int k = 0; k < 4; k++)
            for (int v = 0; v < block; v++) sums[t][k][v] = bias[v];
    for (int ky = 0; ky < KERNEL; ky++)
        for (int kx = 0; kx < KERNEL; kx++) {
            const float *p = in + (ky * in_w + kx) * pitch;
            for (int i = 0; i < ins; i++, p += plane, w += block) {
                vec near[MOST];
                for (int v = 0; v < block; v++) near[v] = held(w[v]);
                for (int t = 0; t < tile; t++)
                    for (int k = 0; k < 4; k++)
                        for (int v = 0; v < block; v++)
                            sums[t][k][v] += p[(k / 2 * in_w + k % 2 + 2 * t) * pitch] * near[v];
            }
        }
    for (int t = 0; t < tile; t++)
        for (int v = 0; v < block; v++) {
            vec most = sums[t][0][v];
            mask where = {0};
            for (int k = 1; k < 4; k++) {
                mask more = (sums[t][k][v] > most) | (sums[t][k][v] != sums[t][k][v]);
                most = (vec)(((mask)sums[t][k][v] & more) | ((mask)most & ~more));
                where = (more & k) | (where & ~more);
            }
            mask open = opened(most);
            out[t * vecs + v] = keep(open, most);
            at[t * vecs + v] = (where & open) | (CLOSED & ~open);
        }
}

/* The same of all windows [h][wide]; w is [vecs / block][row][column][in][block]. */
INLINE void conv(const float *in, int in_w, int pitch, int plane, int ins, const vec *w,
                 const vec *bias, int vecs, int block, int h, int wide, vec *out, int out_w,
                 mask *at)
{
    int tile = 2 * 4 * block <= FREE ? 2 : 1;
    for (int v = 0; v < vecs; v += block, w += KERNEL * KERNEL * ins * block)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < wide; x += wide - x < tile ? 1 : tile) {
                const float *p = in + (2 * y * in_w + 2 * x) * pitch;
                vec *o = out + (y * out_w + x) * vecs + v;
                mask *a = at + (y * wide + x) * vecs + v;
                if (wide - x < tile)
                    conv_tile(p, in_w, pitch, plane, ins, w, bias + v, block, 1, vecs, o, a);
                else
                    conv_tile(p, in_w, pitch, plane, ins, w, bias + v, block, tile, vecs, o, a);
            }
}

/* Out of a pooled gradient d [h][wide], its rows `row` vectors apart, what the ReLU did not let
 * through; the rest is added up. */
INLINE void close_relu(vec *d, int row, const mask *at, int vecs, int h, int wide, vec *bias)
{
    for (int y = 0; y < h; y++, d += row)
        for (int x = 0; x < wide; x++, at += vecs)
            for (int v = 0; v < vecs; v++) {
                d[x * vecs + v] = keep(at[v] != CLOSED, d[x * vecs + v]);
                bias[v] += d[x * vecs + v];
            }
}

/* The gradient of a convolution's weights [outs][kernel][kernel][vecs], of its input `in` and the
 * pooled gradient d [h][wide][channels]: three of four places in a window have none. */
INLINE void conv_weights(const vec *in, int in_w, int kernel, int vecs, const float *d,
                         const int32_t *at, int channels, int outs, int h, int wide, int block,
                         int lines, int few, vec *out)
{
    int taps = lines * kernel, area = kernel * kernel;
    const int place[] = {0, vecs, in_w * vecs, (in_w + 1) * vecs, 0};
    for (int o = 0; o < outs; o += few)
        for (int ky = 0; ky < kernel; ky += lines)
            for (int v = 0; v < vecs; v += block) {
                vec sums[SUMS][MOST] = {0};
                for (int y = 0; y < h; y++)
                    for (int x = 0; x < wide; x++)
                        for (int f = 0; f < few; f++) {
                            int n = (y * wide + x) * channels + o + f;
                            const vec *p = in + place[at[n]] + v
                                + ((2 * y + ky) * in_w + 2 * x) * vecs;
                            for (int t = 0; t < taps; t++)
                                for (int b = 0; b < block; b++)
                                    sums[f * taps + t][b]
                                        += d[n] * p[(t / kernel * in_w + t % kernel) * vecs + b];
                        }
                for (int f = 0; f < few; f++)
                    for (int t = 0; t < taps; t++)
                        for (int b = 0; b < block; b++)
                            out[((o + f) * area + ky * kernel + t) * vecs + v + b]
                                += sums[f * taps + t][b];
            }
}

/* Dense layers take IMAGES rows at a time: up to IMAGES - 1 after the last are read and written. */
INLINE void dense(const float *in, int pitch, int images, const float *w, const float *bias,
                  int outs, int block, int vecs, float *out, int out_pitch)
{
    for (int start = 0; start < vecs; start += CHUNK)
        for (int first = 0; first < outs; first += block)
            for (int r = 0; r < images; r += IMAGES) {
                vec sums[IMAGES][MOST] = {0};
                for (int i = start; i < vecs && i < start + CHUNK; i++) {
                    vec near[IMAGES];
                    for (int s = 0; s < IMAGES; s++)
                        near[s] = held(((const vec *)(in + (r + s) * pitch))[i]);
                    for (int c = 0; c < block; c++) {
                        vec q = held(((const vec *)(w + (first + c) * pitch))[i]);
                        for (int s = 0; s < IMAGES; s++) sums[s][c] += near[s] * q;
                    }
                }
                for (int s = 0; s < IMAGES; s++)
                    for (int c = 0; c < block; c++) {
                        float *o = out + (r + s) * out_pitch + first + c;
                        *o = total(sums[s][c]) + (start ? *o : bias[first + c]);
                    }
            }
}

INLINE void dense_input(const float *d, int d_pitch, int images, const float *w, int outs, int vecs,
                        int block, float *out, int pitch)
{
    for (int i = 0; i < vecs; i += block)
        for (int r = 0; r < images; r += IMAGES) {
            vec sums[IMAGES][MOST] = {0};
            for (int o = 0; o < outs; o++) {
                vec near[MOST];
                const vec *p = (const vec *)(w + o * pitch) + i;
                for (int v = 0; v < block; v++) near[v] = held(p[v]);
                for (int s = 0; s < IMAGES; s++) {
                    float of = d[(r + s) * d_pitch + o];
                    for (int v = 0; v < block; v++) sums[s][v] += of * near[v];
                }
            }
            for (int s = 0; s < IMAGES; s++)
                for (int v = 0; v < block; v++)
                    ((vec *)(out + (r + s) * pitch))[i + v] = sums[s][v];
        }
}

typedef struct {
    float rate, momentum, decay;
} Sgd;

INLINE void step(vec *parameters, vec *momenta, vec gradient, Sgd sgd)
{
    if (sgd.decay) gradient += sgd.decay * *parameters;  /* no decay of infinity is no NaN */
    *momenta = sgd.momentum * *momenta + gradient;
    *parameters -= sgd.rate * *momenta;
}

/* A step of a dense layer's weights w and bias b, whose momenta lie `apart` floats after them. */
INLINE void dense_step(const float *d, int d_pitch, const float *in, int pitch, int64_t images,
                       int outs, int few, int vecs, int block, float *w, float *b, int apart,
                       Sgd sgd)
{
    for (int i = 0; i < vecs; i += block)
        for (int first = 0; first < outs; first += few) {
            vec sums[MOST][MOST] = {0};
            for (int64_t r = 0; r < images; r++) {
                vec near[MOST];
                const vec *p = (const vec *)(in + r * pitch) + i;
                for (int v = 0; v < block; v++) near[v] = held(p[v]);
                for (int c = 0; c < few; c++) {
                    float of = d[r * d_pitch + first + c];
                    for (int v = 0; v < block; v++) sums[c][v] += of * near[v];
                }
            }
            for (int c = 0; c < few; c++)
                for (int v = 0; v < block; v++) {
                    float *at = w + (first + c) * pitch + (i + v) * LANES;
                    step((vec *)at, (vec *)(at + apart), sums[c][v], sgd);
                }
        }
    for (int i = 0; i < d_pitch; i += LANES) {
        vec sum = {0};
        for (int64_t r = 0; r < images; r++) sum += *(const vec *)(d + r * d_pitch + i);
        step((vec *)(b + i), (vec *)(b + i + apart), sum, sgd);
    }
}
