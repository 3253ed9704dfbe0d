/* Training steps and products on LIBXSMM's JIT-compiled batch-reduce kernels, in its blocked layouts.

   activations, deltas  [batch / bn][units / bk][bn][bk]     W  [n_out / bk][n_in / bc][bc][bk]

   z starts as the bias, to which the product is added; deltas are scaled by -rate / batch at the
   output, and a block of BP3 is added to W while it is in the L1 cache: only to add it up there, with
   nothing between, would be faster, but round W at each sample. Elementwise loops are vectorized by
   gcc, whose tanhf and expf are glibc's vector functions. */

#include <libxsmm.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IDENTITY, TANH, RELU, SIGMOID, SOFTMAX };
typedef libxsmm_smmfunction_reducebatch_strd product;

typedef struct {
    int n_in, n_out, bc, bk, C, K, f; /* bc * C = n_in, bk * K = n_out, activation */
    float *W, *WT, *b, *a, *delta;    /* WT: blocks [C][K][bk][bc], for BP2 */
    product forward, backward, update;
} layer;

typedef struct {
    int depth, batch, bn, N;
    layer layers[8];
} net;

static float *floats(size_t n) {
    float *x = libxsmm_aligned_malloc(n * sizeof(float), 64);
    memset(x, 0, n * sizeof(float));
    return x;
}

/* c (n, m) += or = the sum over a batch of b (n, k) @ a (k, m), row-major; strides in floats. */
static product dispatch(int m, int n, int k, int lda, int ldb, int ldc, int stride_a, int stride_b,
                        int adds, int transposed_b) {
    float alpha = 1, beta = adds;
    int flags = LIBXSMM_GEMM_FLAGS('N', transposed_b ? 'T' : 'N'), prefetch = LIBXSMM_PREFETCH_NONE;
    return libxsmm_smmdispatch_reducebatch_strd(m, n, k, 4 * stride_a, 4 * stride_b, &lda, &ldb, &ldc,
                                                &alpha, &beta, &flags, &prefetch);
}

/* sizes and blocks (depth + 1,); f (depth,). NULL where LIBXSMM has no kernel for this CPU. */
net *make(int depth, const int *sizes, const int *blocks, const int *f, int batch, int bn) {
    net *self = calloc(1, sizeof(net));
    libxsmm_init();
    *self = (net){.depth = depth, .batch = batch, .bn = bn, .N = batch / bn};
    for (int l = 0; l < depth; l++) {
        int n_in = sizes[l], n_out = sizes[l + 1], bc = blocks[l], bk = blocks[l + 1];
        int C = n_in / bc, K = n_out / bk;
        self->layers[l] = (layer){
            .n_in = n_in, .n_out = n_out, .bc = bc, .bk = bk, .C = C, .K = K, .f = f[l],
            .W = floats((size_t)n_in * n_out), .WT = floats((size_t)n_in * n_out), .b = floats(n_out),
            .a = floats((size_t)batch * n_out), .delta = floats((size_t)batch * n_out),
            .forward = dispatch(bk, bn, bc, bk, bc, bk, bc * bk, bn * bc, 1, 0),
            .backward = dispatch(bc, bn, bk, bc, bk, bc, bc * bk, bn * bk, 0, 0),
            .update = dispatch(bk, bc, bn, bk, bc, bk, K * bn * bk, C * bn * bc, 0, 1),
        };
        layer *p = &self->layers[l];
        if (!p->forward || !p->backward || !p->update) return NULL;
    }
    return self;
}

float *weights(net *self, int l) { return self->layers[l].W; }
float *biases(net *self, int l) { return self->layers[l].b; }

static void transpose(const layer *p, int k, int c) {
    size_t size = (size_t)p->bc * p->bk;
    libxsmm_otrans(p->WT + (c * p->K + k) * size, p->W + (k * p->C + c) * size, sizeof(float), p->bk,
                   p->bc, p->bk, p->bc);
}

/* Once W is filled. */
void prepare(net *self) {
    for (int l = 1; l < self->depth; l++)
        for (int k = 0; k < self->layers[l].K; k++)
            for (int c = 0; c < self->layers[l].C; c++) transpose(&self->layers[l], k, c);
}

static void activate(int f, float *restrict z, int n) {
    if (f == TANH)
        for (int i = 0; i < n; i++) z[i] = tanhf(z[i]);
    else if (f == RELU)
        for (int i = 0; i < n; i++) z[i] = z[i] > 0 ? z[i] : 0;
    else if (f == SIGMOID)
        for (int i = 0; i < n; i++) z[i] = 1 / (1 + expf(-z[i]));
}

static void times_derivative(int f, float *restrict delta, const float *restrict a, int n) {
    if (f == TANH)
        for (int i = 0; i < n; i++) delta[i] *= 1 - a[i] * a[i];
    else if (f == RELU)
        for (int i = 0; i < n; i++) delta[i] = a[i] > 0 ? delta[i] : 0;
    else if (f == SIGMOID)
        for (int i = 0; i < n; i++) delta[i] *= a[i] * (1 - a[i]);
}

static void forward(const net *self, const layer *p, const float *x) {
    unsigned long long count = p->C;
    int bn = self->bn, bk = p->bk;
    for (int n = 0; n < self->N; n++)
        for (int k = 0; k < p->K; k++) {
            float *z = p->a + (size_t)(n * p->K + k) * bn * bk;
            for (int i = 0; i < bn; i++) memcpy(z + i * bk, p->b + k * bk, bk * sizeof(float));
            p->forward(p->W + (size_t)k * p->C * p->bc * bk, x + (size_t)n * p->C * bn * p->bc, z,
                       &count);
            activate(p->f, z, bn * bk);
        }
}

static void backward(const net *self, const layer *p, const layer *below) {
    unsigned long long count = p->K;
    int bn = self->bn, size = bn * p->bc;
    for (int n = 0; n < self->N; n++)
        for (int c = 0; c < p->C; c++) {
            size_t at = (size_t)(n * p->C + c) * size;
            p->backward(p->WT + (size_t)c * p->K * p->bk * p->bc, p->delta + (size_t)n * bn * p->n_out,
                        below->delta + at, &count);
            times_derivative(below->f, below->delta + at, below->a + at, size);
        }
}

static void update(const net *self, const layer *p, const float *x, int keeps_transpose) {
    static float dW[64 * 64] __attribute__((aligned(64)));
    unsigned long long count = self->N;
    int bn = self->bn, bk = p->bk, size = p->bc * bk;
    for (int k = 0; k < p->K; k++) {
        const float *delta = p->delta + (size_t)k * bn * bk;
        float db[64] = {0};
        for (int n = 0; n < self->N; n++)
            for (int i = 0; i < bn; i++)
                for (int j = 0; j < bk; j++) db[j] += delta[(size_t)n * bn * p->n_out + i * bk + j];
        for (int j = 0; j < bk; j++) p->b[k * bk + j] += db[j];
        for (int c = 0; c < p->C; c++) {
            float *restrict W = p->W + (size_t)(k * p->C + c) * size;
            p->update(delta, x + (size_t)c * bn * p->bc, dW, &count);
            for (int i = 0; i < size; i++) W[i] += dW[i];
            if (keeps_transpose) transpose(p, k, c);
        }
    }
}

/* Loss of the outputs, and delta = -rate / batch * dloss/dz; y as for `train`. */
static float output(const net *self, const float *restrict y, int columns, float rate) {
    const layer *p = &self->layers[self->depth - 1];
    float total = 0, scale = -rate / self->batch;
    int size = self->batch * p->n_out;
    if (p->f != SOFTMAX) {
        float *restrict delta = p->delta;
        for (int i = 0; i < size; i++) {
            float d = p->a[i] - y[i];
            total += d * d / 2;
            delta[i] = scale * d;
        }
        times_derivative(p->f, delta, p->a, size);
        return total / self->batch;
    }
    for (int i = 0; i < self->batch; i++) {
        float *restrict a = p->a + (size_t)i * p->bk, *restrict delta = p->delta + (size_t)i * p->bk;
        float most = a[0], sum = 0;
        for (int j = 1; j < columns; j++) most = fmaxf(most, a[j]);
        for (int j = 0; j < columns; j++) sum += delta[j] = expf(a[j] - most);
        int label = (int)y[i];
        total += logf(sum) - (a[label] - most);
        for (int j = 0; j < columns; j++) delta[j] *= scale / sum;
        delta[label] -= scale;
    }
    return total / self->batch;
}

/* Do `steps` steps of descent on batches that follow each other; returns the last one's loss.

   X in blocks; Y too, or labels as floats for a softmax of `columns` classes in one block. */
float train(net *self, const float *X, const float *Y, int columns, int steps, float rate) {
    float loss = 0;
    layer *last = &self->layers[self->depth - 1];
    size_t per_batch = (size_t)self->batch * (last->f == SOFTMAX ? 1 : last->n_out);
    for (int s = 0; s < steps; s++) {
        const float *x = X + (size_t)s * self->batch * self->layers[0].n_in;
        for (layer *p = self->layers; p <= last; p++) forward(self, p, p == self->layers ? x : p[-1].a);
        loss = output(self, Y + s * per_batch, columns, rate);
        for (layer *p = last; p >= self->layers; p--) {
            if (p > self->layers) backward(self, p, p - 1);
            update(self, p, p == self->layers ? x : p[-1].a, p > self->layers);
        }
    }
    return loss;
}

/* Compute c = a @ b `times` times, all (n, n) and row-major: by one kernel, or packed into blocks. */
int multiply(int n, const float *a, const float *b, float *c, int times) {
    enum { BLOCK = 64, DIRECT = 128 };
    static float *rows = NULL, *panels = NULL;
    libxsmm_init();
    if (n <= DIRECT) {
        product whole = dispatch(n, n, n, n, n, n, 0, 0, 0, 0);
        unsigned long long one = 1;
        if (!whole) return 1;
        for (int t = 0; t < times; t++) whole(b, a, c, &one);
        return 0;
    }
    product block = dispatch(BLOCK, BLOCK, BLOCK, BLOCK, BLOCK, n, BLOCK * BLOCK, BLOCK * BLOCK, 0, 0);
    unsigned long long K = n / BLOCK;
    if (!block || n % BLOCK) return 1;
    if (!rows) rows = floats((size_t)BLOCK * 4096), panels = floats((size_t)n * n);
    for (int t = 0; t < times; t++) {
        for (int k = 0; k < n; k++)
            for (int j = 0; j < n; j += BLOCK)
                memcpy(panels + (size_t)j * n + k * BLOCK, b + (size_t)k * n + j, BLOCK * sizeof(float));
        for (int i = 0; i < n; i += BLOCK) {
            for (int k = 0; k < n; k += BLOCK)
                for (int r = 0; r < BLOCK; r++)
                    memcpy(rows + k * BLOCK + r * BLOCK, a + (size_t)(i + r) * n + k,
                           BLOCK * sizeof(float));
            for (int j = 0; j < n; j += BLOCK)
                block(panels + (size_t)j * n, rows, c + (size_t)i * n + j, &K);
        }
    }
    return 0;
}
