/* FANN's online training: one sample after the other through fann_train. */

#include <floatfann.h>

float *weights(struct fann *net) { return net->weights; }

void train(struct fann *net, float *X, float *Y, int steps) {
    unsigned n_in = fann_get_num_input(net), n_out = fann_get_num_output(net);
    for (int i = 0; i < steps; i++) fann_train(net, X + (size_t)i * n_in, Y + (size_t)i * n_out);
}
