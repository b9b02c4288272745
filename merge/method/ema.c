// SPDX-License-Identifier: Apache-2.0
// Exponential moving average over checkpoints in the order of their steps: e_t = d e_(t-1) + (1 - d) x_t.
// Unrolled it is one weighted sum, so one pass serves any number of checkpoints.
#include <math.h>

#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    double decay = tarn_get(b, "decay"), factor[TARN_METHOD_MODELS], left = 1, total = 0;
    bool first = tarn_choice(b, "start", "first"), warm = tarn_flag(b, "warmup");
    for (int i = b->n - 1; i >= 0; i--) {
        int t = first ? i : i + 1;  // averaging steps so far, this one included
        double d = warm ? fmin(decay, (1.0 + t) / (10.0 + t)) : decay;
        factor[i] = first && i == 0 ? left : left * (1 - d);
        left *= d;
        total += factor[i];
    }
    for (int i = 0; i < b->n; i++) {
        factor[i] /= total;
    }
    return tarn_combine(b->g, b->n, b->x, factor);
}

static const tarn_param params[] = {
    {"decay", TARN_NUMBER, 0.9, 0, 0.999999999, false, NULL,
     "share of the average that each further checkpoint leaves; 0 gives the last checkpoint"},
    {"start", TARN_CHOICE, 0, 0, 0, false, "zero|first",
     "zero: from nothing, divided by 1 - decay^n (bias-corrected, as in Adam); first: from the first checkpoint, "
     "which then keeps the weight decay^(n-1)"},
    {"warmup", TARN_BOOLEAN, 0, 0, 1, false, NULL,
     "step t decays by min(decay, (1 + t) / (10 + t)), as in TensorFlow and diffusion training"},
    {0},
};

const tarn_method tarn_method_ema = {
    .name = "ema",
    .summary = "exponential moving average of checkpoints, oldest first",
    .paper = "Tarvainen, Valpola 2017, Mean teachers are better role models, arXiv:1703.01780; bias correction: "
             "Kingma, Ba 2014, Adam, arXiv:1412.6980",
    .detail = "e_t = decay e_(t-1) + (1 - decay) x_t over the models in order; model.checkpoints lists a folder's in "
              "that order. The decay is per checkpoint: those s training steps apart, for a decay of d per step, "
              "take d^s. With decay near 1 and start = \"zero\" it tends to the plain mean.",
    .example = "print(merge.ema { a, b, c, decay = 0.5 })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .build = build,
};
