// SPDX-License-Identifier: Apache-2.0
// The rows of bench_merge: ROW(name, expression of tarn, inputs, configuration of mergekit or NULL).
// In expressions base, a and b are the opened models; inputs name what is read (b base, 1 a, 2 b);
// configurations have %1$s for the folder. SLOW rows run once, and only with --slow or --only.
#define MERGEKIT(method, common, all)                                                         \
    "merge_method: " method "\nbase_model: %1$s/base\nmodels:\n"                              \
    "  - {model: %1$s/a, parameters: {weight: 0.5" common "}}\n"                             \
    "  - {model: %1$s/b, parameters: {weight: 0.5" common "}}\nparameters: {" all "}\ndtype: bfloat16\n"
#define TWO(method, first, more)                                                              \
    "merge_method: " method "\n" first "models:\n  - {model: %1$s/a" more "}\n  - {model: %1$s/b" more "}\n" \
    "dtype: bfloat16\n"
#define BASE "base_model: %1$s/base\n"

// averages
ROW("linear", "merge.linear { a, b, weight = {0.5, 0.5} }", "12", TWO("linear", "", ", parameters: {weight: 0.5}"))
ROW("ema", "merge.ema { base, a, b, decay = 0.9 }", "b12", NULL)
ROW("median", "merge.median { base, a, b }", "b12", NULL)
ROW("trimmed_mean", "merge.trimmed_mean { base, a, b }", "b12", NULL)
ROW("geometric_median", "merge.geometric_median { base, a, b }", "b12", NULL)
ROW("model_stock", "merge.model_stock { base = base, a, b }", "b12", TWO("model_stock", BASE, ""))
ROW("model_stock row", "merge.model_stock { base = base, a, b, axis = 'row' }", "b12",
    TWO("model_stock", BASE "parameters: {filter_wise: true}\n", ""))
ROW("wise_ft", "merge.wise_ft { base = base, a, alpha = 0.5 }", "b1", NULL)
ROW("paint", "merge.paint { base = base, a, b, alpha = 0.3 }", "b12", NULL)
ROW("expo", "merge.expo { base = base, a, alpha = 0.3 }", "b1", NULL)
ROW("warp", "merge.warp { base = base, a, b }", "b12", NULL)
// spheres
ROW("slerp", "merge.slerp { a, b, t = 0.4 }", "12", TWO("slerp", "base_model: %1$s/a\nparameters: {t: 0.4}\n", ""))
ROW("nuslerp", "merge.nuslerp { a, b, weight = {0.6, 0.4} }", "12", TWO("nuslerp", "", ", parameters: {weight: 0.5}"))
ROW("nuslerp row", "merge.nuslerp { a, b, weight = {0.6, 0.4}, axis = 'row' }", "12",
    TWO("nuslerp", "parameters: {nuslerp_flatten: false}\n", ", parameters: {weight: 0.5}"))
ROW("multislerp", "merge.multislerp { a, b, weight = {0.6, 0.4} }", "12",
    TWO("multislerp", "", ", parameters: {weight: 0.5}"))
ROW("nlerp", "merge.nlerp { a, b }", "12", NULL)
ROW("karcher", "merge.karcher { base, a, b }", "b12",
    "merge_method: karcher\nmodels:\n  - model: %1$s/base\n  - model: %1$s/a\n  - model: %1$s/b\ndtype: bfloat16\n")
// task vectors
ROW("task_arithmetic", "merge.task_arithmetic { base = base, a, b, weight = 0.5 }", "b12", MERGEKIT("task_arithmetic", "", ""))
ROW("ties", "merge.ties { base = base, a, b, weight = 0.5, density = 0.2, trim = 'tensor' }", "b12",
    MERGEKIT("ties", ", density: 0.2", ""))
ROW("ties global", "merge.ties { base = base, a, b, weight = 0.5, density = 0.2 }", "b12", NULL)
ROW("dare_linear", "merge.dare_linear { base = base, a, b, weight = 0.5, density = 0.5, rescale = 'l1' }", "b12",
    MERGEKIT("dare_linear", ", density: 0.5", ""))
ROW("dare_ties", "merge.dare_ties { base = base, a, b, weight = 0.5, density = 0.5, rescale = 'l1' }", "b12",
    MERGEKIT("dare_ties", ", density: 0.5", ""))
ROW("della", "merge.della { base = base, a, b, density = 0.5, window = 'full', rescale = 'l1' }", "b12",
    MERGEKIT("della", ", density: 0.5", ""))
ROW("della_linear", "merge.della_linear { base = base, a, b, density = 0.5, window = 'full', rescale = 'l1' }", "b12",
    MERGEKIT("della_linear", ", density: 0.5", ""))
ROW("breadcrumbs", "merge.breadcrumbs { base = base, a, b, weight = 0.5, density = 0.9 }", "b12",
    MERGEKIT("breadcrumbs", ", density: 0.9", ""))
ROW("breadcrumbs_ties", "merge.breadcrumbs_ties { base = base, a, b, weight = 0.5, density = 0.9 }", "b12",
    MERGEKIT("breadcrumbs_ties", ", density: 0.9", ""))
ROW("sce", "merge.sce { base = base, a, b, density = 1 }", "b12", TWO("sce", BASE, ""))
ROW("sce 0.1", "merge.sce { base = base, a, b, density = 0.1 }", "b12",
    TWO("sce", BASE "parameters: {select_topk: 0.1}\n", ""))
ROW("ram", "merge.ram { base = base, a, b }", "b12", TWO("ram", BASE, ""))
ROW("ramplus", "merge.ramplus { base = base, a, b }", "b12", TWO("ramplus_tl", BASE, ""))
ROW("nearswap", "merge.nearswap { base = base, a, t = 0.001 }", "b1",
    "merge_method: nearswap\nbase_model: %1$s/base\nmodels:\n  - model: %1$s/a\nparameters: {t: 0.001}\ndtype: bfloat16\n")
ROW("arcee_fusion", "merge.arcee_fusion { base = base, a }", "b1",
    "merge_method: arcee_fusion\nbase_model: %1$s/base\nmodels:\n  - model: %1$s/base\n  - model: %1$s/a\ndtype: bfloat16\n")
ROW("consensus_ta", "merge.consensus_ta { base = base, a, b }", "b12", NULL)
ROW("consensus_ties", "merge.consensus_ties { base = base, a, b }", "b12", NULL)
ROW("tall_masks", "merge.tall_masks { base = base, a, b }", "b12", NULL)
ROW("emr", "merge.emr { base = base, a, b, task = 1 }", "b12", NULL)
ROW("pcb", "merge.pcb { base = base, a, b }", "b12", NULL)
ROW("magmax", "merge.magmax { base = base, a, b }", "b12", NULL)
ROW("lines", "merge.lines { base = base, a, b, alpha = 0.5, beta = 1 }", "b12", NULL)
// of the Stable Diffusion community
ROW("add_difference", "merge.add_difference { a, b, base }", "b12", NULL)
ROW("train_difference", "merge.train_difference { a, b, base }", "b12", NULL)
ROW("cosine_add_difference", "merge.cosine_add_difference { a, b }", "12", NULL)
ROW("sum_twice", "merge.sum_twice { base, a, b }", "b12", NULL)
ROW("triple_sum", "merge.triple_sum { base, a, b }", "b12", NULL)
ROW("tensor_sum", "merge.tensor_sum { a, b }", "12", NULL)
ROW("clamp", "merge.clamp { base, a, b }", "b12", NULL)
ROW("dropout", "merge.dropout { base = base, a, b }", "b12", NULL)
SLOW("rank_crossover", "merge.rank_crossover { a, b }", "12")
SLOW("distribution_crossover", "merge.distribution_crossover { a, b, base }", "b12")
SLOW("frequency_crossover", "merge.frequency_crossover { a, b }", "12")
SLOW("rotate", "merge.rotate { a, b }", "12")
// spectra
SLOW("svd_truncate", "merge.svd_truncate { base = base, a, rank = 64, route = 'random' }", "b1")
SLOW("lora_extract", "merge.lora_extract { base = base, a, rank = 16, route = 'random' }", "b1")
SLOW("tsv_m", "merge.tsv_m { base = base, a, b }", "b12")
SLOW("iso_c", "merge.iso_c { base = base, a, b }", "b12")
SLOW("iso_cts", "merge.iso_cts { base = base, a, b }", "b12")
SLOW("wudi", "merge.wudi { base = base, a, b }", "b12")
SLOW("wudi closed", "merge.wudi { base = base, a, b, solve = 'closed' }", "b12")
SLOW("knots", "merge.knots { base = base, a, b }", "b12")
SLOW("star", "merge.star { base = base, a, b }", "b12")
SLOW("cart", "merge.cart { a, b }", "12")
