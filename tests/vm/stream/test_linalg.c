// SPDX-License-Identifier: Apache-2.0
// Linear algebra inside a streamed job, as a spectral method writes it: singular vectors of
// offsets, put together, made orthonormal, multiplied. The bits of the evaluation in memory, and
// not a byte more than the plan promised.
#include "tests/support.h"
#include "vm/op/linalg.h"
#include "vm/stream/stream.h"

enum { MODELS = 3 };

// base + u_perp diag(s) vt_perp over the leading rank-k parts of the offsets.
static const tarn_node *merged(tarn_graph *g, const tarn_node *base, const tarn_node *const *x,
                               tarn_svd_route route, tarn_polar_route polar) {
    const tarn_node *u[MODELS], *s[MODELS], *vt[MODELS];
    tarn_svd_options o = {.rank = base->desc.shape[1] / MODELS,
                          .route = route,
                          .oversample = 8,
                          .power = 1,
                          .seed = 11};
    for (int i = 0; i < MODELS; i++) {
        tarn_svd_nodes d = tarn_svd(g, tarn_sub(g, x[i], base), &o);
        u[i] = d.u;
        s[i] = d.s;
        vt[i] = d.vt;
    }
    const int64_t axis[2] = {0, 1};
    const tarn_node *us =
        tarn_node_make(g, &tarn_op_concat, MODELS, u, &(tarn_attr){1, 0, axis + 1, 0, 0});
    const tarn_node *ss =
        tarn_node_make(g, &tarn_op_concat, MODELS, s, &(tarn_attr){1, 0, axis, 0, 0});
    const tarn_node *vs =
        tarn_node_make(g, &tarn_op_concat, MODELS, vt, &(tarn_attr){1, 0, axis, 0, 0});
    const tarn_node *left = tarn_mul(g, tarn_polar(g, us, polar), ss);
    return tarn_add(g, base, tarn_matmul(g, left, tarn_polar(g, vs, polar)));
}

static void streamed(void **state) {
    static const int threads[] = {1, 2, 8};
    const int64_t shape[2] = {400, 150};
    for (int route = 0; route < 3; route++) {
        tarn_tensor first = {0};
        tarn_context home;
        open_context(&home, 1, NULL);
        for (int k = 0; k < 3; k++) {
            tarn_context cx;
            tarn_error err = {0};
            open_context(&cx, threads[k], NULL);
            tarn_graph *g = tarn_graph_new(&cx);
            const tarn_node *leaf[MODELS + 1];
            for (int i = 0; i <= MODELS; i++) {
                tarn_tensor t =
                    filled(&cx, i % 2 ? TARN_BF16 : TARN_F32, 2, shape, (uint64_t)i + 1);
                const tarn_source *s = tarn_source_of_tensor(&t, "w");
                leaf[i] = tarn_leaf_source(g, s);
                s->release(s);
                tarn_tensor_release(&t);
            }
            const tarn_node *root = merged(g, leaf[0], leaf + 1, (tarn_svd_route)route,
                                           route ? TARN_POLAR_ITERATE : TARN_POLAR_SVD);
            if (!root) {
                fail_msg("%s", g->err.message);
            }
            tarn_job job = {.name = "w", .graph = g, .root = root, .store = TARN_F32};
            tarn_stream_plan plan;
            OK(tarn_stream_plan_of(&cx, 1, &job, &plan, NULL, &err));
            size_t before = cx.budget.used;
            atomic_store(&cx.budget.peak, before);
            tarn_tensor out, eager;
            OK(tarn_stream_load(&cx, 1, &job, &out, &err));
            size_t took = cx.budget.peak - before - tarn_tensor_bytes(&out);
            if (took > plan.peak) {
                fail_msg("%zu bytes taken, %zu promised", took, (size_t)plan.peak);
            }
            OK(tarn_graph_eval(g, 1, &root, NULL, &eager, &err));
            assert_memory_equal(tarn_tensor_data(&out), tarn_tensor_data(&eager),
                                tarn_tensor_bytes(&out));
            if (k == 0) {
                OK(tarn_tensor_cast(&home, &out, TARN_F32, &first, &err));
            }
            assert_memory_equal(tarn_tensor_data(&out), tarn_tensor_data(&first),
                                tarn_tensor_bytes(&out));
            tarn_tensor_release(&out);
            tarn_tensor_release(&eager);
            tarn_graph_release(g);
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
        tarn_tensor_release(&first);
        tarn_context_free(&home);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(streamed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
