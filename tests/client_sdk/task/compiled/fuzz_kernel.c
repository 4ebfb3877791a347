/* Calls the compiled loop with arguments drawn at random, right ones and wrong ones, for the
 * sanitizers to watch (tests/client_sdk/task/compiled/test_kernel_arguments.py). Ends with 0 where each wrong
 * call gave the fault of an argument that was wrong and changed nothing, and each right one a loss.
 * Arrays are allocated anew and to the byte, so that one number too many is seen. */
#include KERNEL_SOURCE
#include <stdio.h>

static uint64_t state;

static uint64_t draw(uint64_t below)  /* splitmix64: Steele, Lea and Flood, 2014 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % below;
}

static float *floats(int64_t count, float scale)
{
    float *made = malloc(count * sizeof(float));
    for (int64_t i = 0; i < count; i++) made[i] = ((int)draw(2001) - 1000) * scale;
    return made;
}

#define PICK(values) (values)[draw(sizeof(values) / sizeof *(values))]

static int once(void)
{
    static const int64_t bad_counts[] = {0, -1, INT64_MIN, (int64_t)INT32_MAX + 1, INT64_MAX};
    static const int64_t bad_batches[] = {0, -1, -60, -71, INT32_MIN, INT64_MIN};
    static const int64_t batches[] = {1, 2, 7, 8, 9, 50, INT32_MAX, (int64_t)1 << 32, INT64_MAX};
    static const float bad_rates[] = {NAN, INFINITY, -INFINITY, -0.1f, 1001, 3e38f};
    static const float rates[] = {0, 1e-45f, 0.01f, 1000}, momenta[] = {0, 0.5f, 0.999f, 1};
    static const float bad_momenta[] = {NAN, INFINITY, -INFINITY, -0.1f, 1.1f, 3e38f};
    static const int64_t bad_labels[] = {-1, CLASSES, INT64_MIN, INT64_MAX, 1 << 20};
    static const float scales[] = {0, 1e-3f, 1e-3f, 1e30f};
    static const float decays[] = {0, 0, 1e-4f, 10}, bad_decays[] = {NAN, INFINITY, -0.1f, 11};
    int64_t n = 1 + draw(40), count = n, batch = PICK(batches);
    float rate = PICK(rates), momentum = PICK(momenta), decay = PICK(decays);
    float *p = floats(PARAMETERS, 1e-4f), *m = calloc(PARAMETERS, sizeof(float));
    float *x = floats(n * CHANNELS * HEIGHT * WIDTH, PICK(scales));
    float *before = malloc(PARAMETERS * sizeof(float));
    int64_t *y = malloc(n * sizeof *y), *order = malloc(n * sizeof *order);
    for (int64_t i = 0; i < n; i++) y[i] = draw(CLASSES), order[i] = draw(n);
    memcpy(before, p, PARAMETERS * sizeof(float));
    void *given[] = {p, m, x, y, order};
    int wrong = draw(2) ? 0 : -2 - (int)draw(8);
    switch (wrong) {
    case BAD_POINTER: {
        int which = draw(5);
        given[which] = draw(2) ? NULL : (char *)given[which] + 1;
        break;
    }
    case BAD_COUNT: count = PICK(bad_counts); break;
    case BAD_BATCH: batch = PICK(bad_batches); break;
    case BAD_RATE: rate = PICK(bad_rates); break;
    case BAD_MOMENTUM: momentum = PICK(bad_momenta); break;
    case BAD_DECAY: decay = PICK(bad_decays); break;
    case BAD_LABEL: y[draw(n)] = PICK(bad_labels); break;
    case BAD_ORDER: order[draw(n)] = draw(2) ? n : -1 - (int64_t)draw(1u << 31); break;
    }
    double found = epoch_with_decay(given[0], given[1], given[2], given[3], given[4], count, batch,
                                    rate, momentum, decay);
    int right = wrong ? found == wrong && !memcmp(before, p, PARAMETERS * sizeof(float))
                      : !(found < 0);  /* a loss, or NaN where the training diverges */
    if (!right)
        printf("n %lld batch %lld rate %g momentum %g: %g in place of %d\n", (long long)count,
               (long long)batch, rate, momentum, found, wrong);
    free(p), free(m), free(x), free(y), free(order), free(before);
    return right;
}

int main(int argc, char **argv)
{
    state = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    for (int call = 0; call < CALLS; call++)
        if (!once()) return 1;
    return 0;
}
