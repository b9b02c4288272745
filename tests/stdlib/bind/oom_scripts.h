// SPDX-License-Identifier: Apache-2.0
// Scripts under failing allocations, shared by the sampled test and the full one: those below, and the
// example of every row of the bindings. Each script runs in a host of its own with allocation n
// failing, alone, then with all later ones; and under caps on memory that are too small. It must end in an
// error that says something, or in the result of a run that met no failure; the host then gives back
// every byte of the budget; and the folder `out` holds what it held before or all that the script
// writes there, never a part. (What malloc itself lost is for the sanitizers and valgrind to tell.)
#ifndef TARN_TESTS_BIND_OOM_SCRIPTS_H
#define TARN_TESTS_BIND_OOM_SCRIPTS_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

#include "stdlib/bind/bind.h"
#include "tests/oom.h"
#include "vm/base/digest.h"
#include "vm/op/blas.h"

typedef struct {
    const char *name;
    const char *before;  // run with nothing failing; its globals are the script's
    const char *script;  // returns a text
} oom_script;

typedef struct {
    long step;      // one allocation in so many fails, at least one of each script
    long most;      // so many fail of each script at most, spread over all it asks for; 0: no bound
    int caps;       // on memory, spread over what the script needs
    long day;       // another one: other allocations, other caps
    bool examples;  // they remove what they wrote: stopped half way they leave files, whole ones
} oom_effort;

static const char oom_prologue[] =
    "base = model.open 'examples/data/base.safetensors' "
    "low = model.open 'examples/data/low.safetensors' "
    "high = model.open 'examples/data/high.safetensors' "
    "twin = model.open 'examples/data/twin.safetensors' "
    "function show(m) return table.concat(m:load()['fc3.bias']:totable(), ' ') end ";

#define ONE_METHOD(name, table)                                                                  \
    {name, "",                                                                                   \
     "local m = merge." name " " table " m:save(out .. 'm') "                                    \
     "return show(m:only 'fc3.bias') .. tostring(m)"}

static const oom_script oom_scripts[] = {
    {"open", NULL, "return 'opened'"},  // NULL: opening the host fails too
    {"model.open", "",
     "local m = model.open 'examples/data/base.safetensors' return #m .. m:label() .. m:files()[1]"},
    {"model.load", "", "return show(model.load 'examples/data/low.safetensors')"},
    {"what a model says", "",
     "local s = tostring(base) for name, t in pairs(base) do s = s .. name .. tostring(t) end "
     "s = s .. base:info('fc1.bias').dtype .. base:structure().depths .. base:summary().elements "
     "return s .. #base:names('bias') .. base:numel() .. base:dtype() .. base:mass() .. #base:metadata()"},
    {"algebra", "",
     "local m = base + 0.4 * (low - base) / 2 - (high - base) "
     "m = m:only 'fc[23]':rename(function(n) return 'x.' .. n end):cast 'f16' "
     "m = model.join { m, base:slice('fc1.bias', 2, 5) } "
     "return tostring(m) .. m:norm() .. (low - base):cosine(high - base) .. low:norm(1)"},
    {"decompositions differentiated", "a = tensor({ { 2, 1 }, { 1, 3 }, { 0, 1 } }, { dtype = 'f64' })",
     "return tostring(grad(function(t) "
     "local u, s = t:svd { rank = 1 } local q, r = t:qr() local c = t:t():matmul(t) local w, v = c:eigh() "
     "return s:sum() + u:sum() + (q:exp()):sum() + r:sum() + (v * w):sum() + c:cholesky():sum() + t:polar():sum() "
     "+ tensor.einsum('ij,ij->', t, t:cumsum(1)) + t:sort():masked_fill(t:gt(1), 0)[1]:sum() end, a))"},
    {"plan", "ties = merge.ties { base = base, low, high, density = 0.2, weight = by.name { { 'fc1', 1 }, { '.', 2 } } }",
     "return tostring(ties:plan { dtype = 'f16' }) .. tostring(ties)"},
    ONE_METHOD("linear", "{ low, high, weight = { 0.6, 0.4 } }"),
    ONE_METHOD("slerp", "{ low, high, t = by.depth { 0, 0.5, 1 } }"),
    ONE_METHOD("task_arithmetic", "{ base = base, low, high, lambda = 0.4 }"),
    ONE_METHOD("ties", "{ base = base, low, high, density = 0.2 }"),
    ONE_METHOD("dare_linear", "{ base = base, low, high, density = 0.5, seed = 1 }"),
    ONE_METHOD("dare_ties", "{ base = base, low, high, density = 0.5, seed = 1 }"),
    ONE_METHOD("model_stock", "{ base = base, low, high }"),
    ONE_METHOD("karcher", "{ low, high, twin }"),
    ONE_METHOD("median", "{ low, high, twin }"),
    ONE_METHOD("geometric_median", "{ low, high, twin }"),
    ONE_METHOD("nuslerp", "{ base = base, low, high, axis = 'row' }"),
    ONE_METHOD("add_difference", "{ low, high, base, smooth = true, mask = 'opposite', clamp = true }"),
    ONE_METHOD("cosine_add_difference", "{ base = base, low, high, rescale = 'model' }"),
    ONE_METHOD("distribution_crossover", "{ low, high, base, beta = 0.1 }"),
    ONE_METHOD("frequency_crossover", "{ low, high, tilt = 0.2 }"),
    ONE_METHOD("dropout", "{ base = base, low, high, overlap = 'disjoint' }"),
    {"averages", "",
     "local s = {} for _, m in ipairs { merge.trimmed_mean { low, high, twin }, merge.ema { low, high, twin }, "
     "merge.wise_ft { base = base, low }, merge.paint { base = base, low }, merge.expo { base = base, low }, "
     "merge.warp { base = base, low, high }, merge.nlerp { low, high }, merge.multislerp { low, high, twin } } do "
     "s[#s + 1] = show(m) end return table.concat(s)"},
    {"consensus", "",
     "local s = {} for _, m in ipairs { merge.della { base = base, low, high }, "
     "merge.breadcrumbs { base = base, low, high }, merge.sce { base = base, low, high }, "
     "merge.ram { base = base, low, high }, merge.ramplus { base = base, low, high }, "
     "merge.nearswap { base = low, high, t = 0.1 }, merge.arcee_fusion { base = base, low }, "
     "merge.consensus_ta { base = base, low, high }, merge.consensus_ties { base = base, low, high }, "
     "merge.pcb { base = base, low, high }, merge.magmax { base = base, low, high }, "
     "merge.lines { base = base, low, high, alpha = 0.5, beta = 1 } } do s[#s + 1] = show(m) end "
     "return table.concat(s)"},
    {"masks", "",
     "local m, e = merge.tall_masks { base = base, low, high }, merge.emr { base = base, low, high, task = 1 } return "
     "#m .. show(merge.unmask { base = base, m, task = 1 }) .. show(e) .. #merge.emr_masks { base = base, low, high }"},
    {"crossovers", "",
     "local s = {} for _, m in ipairs { merge.train_difference { base, low, high }, "
     "merge.sum_twice { base, low, high }, merge.triple_sum { base, low, high }, merge.tensor_sum { low, high }, "
     "merge.rank_crossover { low, high }, merge.rotate { low, high }, merge.clamp { base, low, high } } do "
     "s[#s + 1] = show(m) end return table.concat(s)"},
    {"spectral", "",
     "local s = {} for _, m in ipairs { merge.svd_truncate { base = base, low, rank = 2 }, "
     "merge.lora_extract { base = base, low, rank = 2 }, merge.tsv_m { base = base, low, high }, "
     "merge.tsv_task { base = base, merge.tsv_c { base = base, low, high }, task = 1 }, "
     "merge.iso_c { base = base, low, high }, merge.iso_cts { base = base, low, high }, "
     "merge.wudi { base = base, low, high, steps = 2 }, merge.knots { base = base, low, high }, "
     "merge.star { base = base, low, high }, merge.cart { low, high } } do s[#s + 1] = tostring(m:load():norm()) end "
     "return table.concat(s, ' ') .. tostring(merge.task_interference { base = base, low, high }:load())"},
    {"layers", "",
     "local m = model.stack { base:layers(1, 2), low:layers(2):renumber(3) } return #m .. tostring(m) "
     ".. show(base:layers(2, 3))"},
    {"lora", "llama = model.open 'tests/golden/lora/base_llama'",
     "local a, b = model.lora('tests/golden/lora/r4_qv', llama), model.lora('tests/golden/lora/dora', llama) "
     "local m = llama + 0.5 * a + b return tostring(m:only 'layers.0.*q_proj':load():norm()) .. tostring(m)"},
    {"lora_sum",
     "llama = model.open 'tests/golden/lora/base_llama' a = model.lora('tests/golden/lora/r4_qv', llama) "
     "b = model.lora('tests/golden/lora/rslora', llama)",
     "model.lora_sum({ a, b, weight = { 1, -1 }, rank = 3 }):save_adapter(out .. 'sum') "
     "return tostring(#model.lora(out .. 'sum', llama))"},
    {"vocabulary", "llama = model.open 'tests/golden/lora/base_llama'",
     "local u = model.token_union { llama, llama:resize_vocab(70), ids = { { [0] = 0, [1] = 1 }, "
     "{ [0] = 1, [5] = 2 } } } return tostring(u[2]) .. u[1]['model.embed_tokens.weight']:load():norm()"},
    {"moe",
     "inputs = 'tests/golden/merge/inputs/bf16/' dense = model.open(inputs .. 'base') "
     "code = model.open(inputs .. 'code')",
     "local m = model.moe { base = dense, experts = { dense, code }, "
     "router = 'random', seed = 3 } return #m .. tostring(m) .. m:config() "
     ".. m['model.layers.1.block_sparse_moe.gate.weight']:load():norm()"},
    {"by.blocks",
     "local t = {} for k = 0, 11 do t['input_blocks.' .. k .. '.0.weight'] = tensor { 1 } t['output_blocks.' .. k .. "
     "'.1.weight'] = tensor { 1 } end t['middle_block.1.weight'] = tensor { 1 } unet = model.new(t)",
     "local m = merge.linear { unet, 2 * unet, weight = { 1, by.blocks { 'GRAD_V', M00 = 2 } } } return tostring(m) "
     ".. m:load():norm()"},
    {"linear algebra", "a = tensor.randn({ 5, 3 }, 1)",
     "local u, s, vt = a:svd() local q, r = a:qr() local s2 = a:t():matmul(a) local w, v = s2:eigh() "
     "return tostring(s) .. tostring(w) .. tostring(r:abs()) .. tostring(s2:cholesky()) .. tostring(s2:solve(s2)) "
     ".. tostring(s2:polar():abs()) .. tostring(base['fc1.weight']:svd())"},
    {"plot", "",
     "local f = plot.line { x = { 1, 2, 4 }, { 'loss', { 3, 2, 1 } }, "
     "title = 'a', ylog = true } f:save(out .. 'f.svg') return f:text { width = 40, height = 8 } .. #f:svg()"},
    {"recall", "merge.linear({ low, high }):save(out .. 'm')",
     "local m = model.recall(out .. 'm') return show(m) .. tostring(m)"},
    {"checkpoints", "",
     "local run = model.checkpoints('examples/data', { step = function(n) return ({ low = 1, high = 2 })[n] end }) "
     "return show(merge.lawa(run)) .. show(merge.ema(run)) .. #model.list 'examples/data'"},
    {"recipe",
     "local f = io.open(out .. 'r.lua', 'w') f:write [[return recipe { name = 'x', inputs = { a = { license = 'MIT' } }, "
     "params = { t = 0.5 }, build = function(m, p) return p.t * m.a + p.t * m.a end, "
     "check = function(out) return #out == 6 end, score = function(out) return out:norm() end }]] f:close() "
     "from = { a = 'examples/data/base.safetensors' }",
     "recipe.run(out .. 'r.lua', { input = from, out = out .. 'm.safetensors' }) "
     "return tostring(recipe.sweep(out .. 'r.lua', { input = from, over = { t = '0.5,1' } }))"},
    {"report", "m = merge.ties { base = base, low, high, trim = 'tensor' }",
     "return tostring(merge.report { m, dtype = 'bf16' }) .. merge.report({ m }):json()"},
    {"explain", "m = merge.linear { low, high, weight = { by.depth { 1, 0.5 }, 1 } }",
     "return tostring(merge.explain { m, time = m:label() == '' }) .. (m:plan { time = true }.time.seconds > 0 and 'timed' or '')"},
    {"one tensor", "", "return tostring(merge.linear { low, high }['fc3.bias']:load())"},
    {"save a file", "soup = merge.linear { low, high }", "soup:save(out .. 'm.safetensors') return 'saved'"},
    {"save a folder", "soup = merge.ties { base = base, low, high, density = 0.2 }",
     "soup:save(out .. 'm', { max_shard_size = 9000, dtype = 'bf16' }) return 'saved'"},
    {"replace a file", "base:save(out .. 'm.safetensors') soup = merge.slerp { low, high }",
     "soup:save(out .. 'm.safetensors', { overwrite = true }) return 'saved'"},
    {"replace a folder",
     "base:save(out .. 'm') local f = io.open(out .. 'm/notes.txt', 'w') f:write 'mine' f:close() "
     "soup = low + (high - base)",
     "soup:save(out .. 'm', { overwrite = true }) return 'saved'"},
    {"replay", "merge.linear { low, high }:save(out .. 'm')",
     "local same, report = model.replay(out .. 'm') return tostring(same) .. tostring(report)"},
    {"stage", "", "local m <close> = (low - base):stage() return show(m)"},
    {"merge.map", "",
     "local m = merge.map { base = base, low, high, "
     "stats = function(t) return { g = tensor.gram { t[1] - t.base, t[2] - t.base } } end, "
     "apply = function(t, s) return t.base + s.g[{ 1, 2 }] / s.g[{ 1, 1 }] * (t[1] - t.base):clamp(-0.1, 0.1) end } "
     "return show(m) .. tostring(m)"},
    {"model:map", "", "return show(base:map(function(t) return (t * 2):abs() end))"},
    {"by", "",
     "local m = merge.linear { low, high, weight = { by.depth { 0, 1, embed = 0.5, head = 2 }, "
     "by.name { { 'fc1', 0.25 }, { [[^fc[23]\\.w]], 0.5 }, { '.', 1 } } } } return show(m)"},
    {"yaml", "",
     "local doc, at = yaml.read('a: &x [1, 2.5, yes, ~]\\nb: {c: *x, <<: {d: \"e\\\\u00e9\"}}\\n', 'c.yml') "
     "local ok, e = pcall(yaml.read, 'a: [1,') assert(not ok and #tostring(e) > 0) "
     "return #doc.a .. doc.b.d .. at[doc].lines.b"},
    {"tensors", "",
     "local a = tensor { { 1, 2, 3 }, { 4, 5, 6 } } local b = tensor.range(1, 6):to 'f32':reshape { 2, 3 } "
     "local c = tensor.stack({ a, b, tensor.eye(2, 3), tensor.full({ 2, 3 }, 7), tensor.zeros_like(a) }) "
     "local r = tensor.randn({ 40 }, 1) + tensor.uniform({ 40 }, 2) "
     "local v, i = r:sort() local k, j = r:topk(3) a:add_(b):mul_(2) a:set_({ 1, 2 }, 9) "
     "return tostring(c) .. tostring(c[{ -1, { 1, 2 } }]) .. tostring(v[{ { 1, 3 } }]) .. tostring(j) .. "
     "tostring(a:t():matmul(b)) .. tostring(a:sum(1)) .. a:mean() .. tostring(a:gt(3):to 'f32') .. "
     "tostring(b:softmax(2)) .. tostring(tensor.cat({ a, b }, 1):permute { 2, 1 }) .. r:kth_largest(2) .. "
     "tostring(tensor.linspace(0, 1, 5, { dtype = 'f64' })) .. tostring(a:gather(1, tensor({ { 1, 2, 1 } }, { dtype = 'i64' })))"},
    {"grad", "x = tensor.randn({ 3, 4 }, 1) w = tensor.randn({ 4, 2 }, 2)",
     "local function f(w) return (x:matmul(w):relu() ^ 2):sum() end "
     "local v, g = value_and_grad(f, w) local h = hvp(f, w, g) local _, j = jvp(f, w, g) "
     "return tostring(grad(f, w)) .. v .. tostring(h) .. tostring(j) .. tostring(vjp(function(w) return w * w end, w, g))"},
    {"network functions", "x = tensor.randn({ 3, 4 }, 1) w = tensor.randn({ 4 }, 2)",
     "local y = tensor({ 1, 0, 3 }, { dtype = 'i64' }) "
     "local function f(w) local h = x:layer_norm(w, w):gelu():dropout(0.5, 3) local q = h:reshape { 1, 3, 4 }:rope() "
     "q = q:attention(q, q, { causal = true }):reshape { 3, 4 } "
     "return (q:group_norm(2, w, w) + w:reshape { 1, 4 }:embedding(0)):cross_entropy(y) end "
     "local n, mean, var, c = x:batch_norm_train(w, w) "
     "return tostring(hvp(f, w, w)) .. tostring(n) .. tostring(x:softmax(1)) .. x:logsumexp() .. x:kl_div(n)"},
    {"grad of models", "m = model.new { ['layers.0.w'] = tensor.randn({ 3, 2 }, 1), ['layers.1.w'] = tensor.randn({ 2, 2 }, 2), "
     "['layers.0.n'] = tensor({ 1 }, { dtype = 'i64' }) } x = tensor.randn({ 4, 3 }, 3)",
     "local function f(m, c) return (x:matmul(m['layers.0.w']):matmul((by.depth(c) * m)['layers.1.w']) ^ 2):mean() + m:norm() end "
     "local c = tensor { 1, 2 } local v, g, more = value_and_grad(f, m, c) local h = hvp(f, m, g, c) "
     "local w = grad(function(c) return f(merge.linear { m + c[1] * (m - m), m }, c):sum() end, c) "
     "local j = jvp(function(t) return merge.model_stock { base = m, (1 + t) * m, 3 * m } end, 1.0, 1.0) "
     "return v .. g:norm() .. tostring(h) .. tostring(w) .. j:norm() .. grad { f, m, c, only = '0' }:norm() "
     ".. tostring(vjp(function(m) return 2 * m end, m, m))"},
    {"compile", "m = model.new { w = tensor.randn({ 3, 2 }, 1), b = tensor.randn({ 2 }, 2) } x = tensor.randn({ 4, 3 }, 3)",
     "local function loss(m, x) return ((x:matmul(m.w) + m.b):relu() ^ 2):mean() end "
     "local step = compile(function(m, o, rate) local v, g = value_and_grad(loss, m, o.x) return m - rate * g, { v, 'k', g:norm() } end, "
     "{ donate = { 1 } }) local t, more = 1 * m, nil for i = 1, 3 do t, more = step(t, { x = x, how = 'a' }, 0.1 * i) end "
     "return tostring(t.w) .. more[1] .. more[2] .. more[3] .. compile(function(a) return a + 1 end)(2)"},
    {"checkpoints", "w, x = tensor.randn({ 3, 3 }, 1), tensor.randn({ 4, 3 }, 3)",
     "local function block(y, v) return { y = y:matmul(v):tanh(), n = 1 } end "
     "local function f(v) return checkpoint(block, checkpoint(block, x, v).y, v).y:sum() end return tostring(grad(f, w))"},
    {"modules", "",
     "return table.concat({ type(nn.mlp), type(data.csv), type(train.fit), type(eval.nll), type(search.cmaes), "
     "type(probe.fisher) }, ' ')"},
    {"networks",
     "net = nn.sequential { nn.linear(2, 3), nn.batch_norm(3), 'relu', nn.linear(3, 2) } x = tensor.randn({ 5, 2 }, 1) "
     "theta, mlp = net:init { seed = 1 }, nn.mlp { 2, 3, 2 } d = { x = x, y = tensor({ 0, 1, 1, 0, 1 }, { dtype = 'i64' }) }",
     "local m = mlp:init { seed = 2 } local f = mlp:loss(d, { batch = 3 }) local H <close> = f:linearize(m) "
     "local y, state = net(theta, x, { mode = 'train', key = 1 }) "
     "return tostring(net) .. net(theta, x):sum() .. y:sum() .. tostring(state['1.running_mean']) .. f(m) "
     ".. f:report(m).error .. f:grad(m):norm() .. H:hvp(m):norm() .. H:ggn(m):norm()"},
    {"data sets",
     "local f = io.open(out .. 't.csv', 'w') f:write 'a,kind\\n1.5,oak\\n2,elm\\n' f:close() data.bytes { text = 'ab', length = 1 }",
     "local s = {} for _, d in ipairs { data.csv(out .. 't.csv', { label = 'kind' }), data.bytes { text = 'abcdef', length = 2 }, "
     "data.idx('tests/golden/idx/images.gz', 'tests/golden/idx/labels'), data.two_moons { n = 6, seed = 1 } } do "
     "local some = d:subset { 2, 1 } "
     "for _, b in some:batches { size = 1, seed = 3, augment = d.image and { shift = 1, noise = 0.1 } or nil } do "
     "s[#s + 1] = b.x:to('f64'):sum() .. b.key end s[#s + 1] = tostring(d) .. some:digest() end return table.concat(s, ' ')"},
    {"training",
     "net = nn.sequential { nn.linear(2, 3), nn.batch_norm(3), 'relu', nn.dropout(0.2), nn.linear(3, 2) } "
     "d = data.two_moons { n = 6, seed = 1 } train.adamw {}",
     // stopped within an epoch: its time, which is never the same, is not written yet
     "local ema = train.ema { decay = 0.5 } local m, log = train.fit(net, d, { batch = 2, seed = 1, quiet = true, "
     "optimiser = train.adamw { clip = 1 }, checkpoint = { path = out .. 'run.safetensors' }, "
     "callbacks = { ema, step = function(info) if info.step == 2 then info.stop() end end } }) "
     "return m:norm() .. ' ' .. log.losses[2] .. ' ' .. ema:model():norm()"},
    {"scores",
     "net = nn.sequential { nn.linear(2, 3), nn.batch_norm(3), nn.linear(3, 2) } d = data.two_moons { n = 6, seed = 1 } "
     "theta = net:init { seed = 1 } eval.accuracy(net, d)",
     "local r = eval.report(net, d, { batch = 4 })(theta) local known = cache(eval.nll(net, d), out .. 'c') "
     "return r.nll .. r.ece .. tostring(r.confusion) .. known(theta) .. known(1 * theta) .. eval.bn_reset(net, theta, d):norm()"},
    {"symmetries", "align.groups(nn.mlp { 2, 3, 2 })",
     "local net = nn.gpt { vocab = 3, width = 4, heads = 2, layers = 1, context = 4, inner = 4 } "
     "return tostring(align.groups(net)) .. tostring(align.groups(net, nil, { pin = '.*ln_1.*' }))"},
    {"probes",
     "net = nn.mlp { 2, 3, 2 } theta = net:init { seed = 1 } d = data.two_moons { n = 3, seed = 1 } "
     "x = tensor.randn({ 4, 2 }, 1) probe.fisher(net, theta, d)",
     "local function f(w, b) return (b:matmul(w):relu() ^ 2):sum() end "
     "local s, n, v = probe.example_squares(f, tensor { { 1, 2 }, { 0, 1 } }, x) "
     "return probe.fisher(net, theta, d):norm() .. probe.example_norms(net, theta, d):sum() .. tostring(s) .. tostring(n) .. v"},
    {"searches", "search.golden(math.abs, -1, 1)",
     "local es = search.cmaes { start = { x = 1, y = 2 }, sigma = 1, seed = 1, evals = 12 } "
     "local p, v = es:minimise(function(p) return p.x ^ 2 + p.y ^ 2 end) local n = 0 "
     "for q in search.grid { a = { 1, 2 }, b = { 3, 4 } } do q:record(q.a * q.b) n = n + q.a end "
     "return v .. n .. search.brent(function(x) return (x - 1) ^ 2 end, -3, 2)"},
};
enum { OOM_SCRIPTS = sizeof oom_scripts / sizeof *oom_scripts };

// ---- the folder that scripts write to ----

static char oom_folder[64];  // ends in a slash

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    return at->level > 0 ? remove(path) : 0;
}
static void empty_folder(void) {
    assert_int_equal(nftw(oom_folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Names and contents of all that lies below, as one digest.
static void add_folder(tarn_sha256 *h, const char *folder) {
    char *names[64], path[512];
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < 64;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            names[n++] = strdup(e->d_name);
        }
    }
    closedir(d);
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s%s/", folder, names[i]);
        tarn_sha256_add(h, path, strlen(path));
        path[strlen(path) - 1] = '\0';
        assert_int_equal(stat(path, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            strcat(path, "/");
            add_folder(h, path);
        } else {
            char *text = malloc((size_t)st.st_size + 1);
            FILE *f = fopen(path, "rb");
            assert_true(f && text);
            tarn_sha256_add(h, text, fread(text, 1, (size_t)st.st_size, f));
            fclose(f);
            free(text);
        }
        free(names[i]);
    }
}

static void look_at_folder(char hex[65]) {
    unsigned char sum[32];
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    add_folder(&h, oom_folder);
    tarn_sha256_end(&h, sum);
    tarn_hex(sum, 32, hex);
}

// ---- one run ----

typedef struct {
    tarn_status status;
    tarn_error err;
    long failed, asked;  // allocations
    size_t left, peak;  // bytes of the budget
    char result[8192];  // of the script
    char before[65], after[65];  // the folder
} oom_outcome;

static tarn_status oom_text(tarn_host *h, const char *name, const char *text, oom_outcome *o) {
    int results = 0;
    o->result[0] = '\0';
    tarn_error_clear(&o->err);
    tarn_status s = tarn_host_run(h, name, text, strlen(text), 0, NULL, &results, &o->err);
    const char *r = s == TARN_OK && results > 0 ? lua_tostring(tarn_host_state(h), -1) : NULL;
    snprintf(o->result, sizeof o->result, "%s", r ? r : "");
    return s;
}

static tarn_status oom_host(tarn_context *cx, double seconds, tarn_host **h, tarn_error *err) {
    tarn_host_options ho = {.trust = TARN_TRUST_SCRIPT, .seconds = seconds, .folder = "."};
    TARN_TRY(tarn_host_open(cx, &ho, h, err));
    return tarn_bind_open(*h, err);
}

static void nothing(void *arg, const char *message) {}

enum { OOM_CAP = 256 << 20 };

// Allocation n fails (0: none); `cap` bytes of memory.
static void oom_run(const oom_script *s, long n, bool onwards, size_t cap, oom_outcome *o) {
    char before[2048];
    tarn_context cx;
    tarn_host *h = NULL;
    tarn_options co = {.threads = 1, .memory = s->before ? OOM_CAP : cap};
    memset(o, 0, sizeof *o);
    empty_folder();
    look_at_folder(o->before);
    if (!s->before) {
        oom_arm(n > 0 ? n : LONG_MAX, onwards);
    }
    o->status = tarn_context_init(&cx, &co, &o->err);
    if (o->status != TARN_OK) {
        o->failed = oom_disarm();
        o->asked = oom_asked();
        return;
    }
    cx.warn = nothing;
    o->status = oom_host(&cx, 100, &h, &o->err);
    if (s->before) {
        assert_int_equal(o->status, TARN_OK);
        snprintf(before, sizeof before, "%s out = '%s' %s", oom_prologue, oom_folder, s->before);
        if (oom_text(h, "=before", before, o) != TARN_OK) {
            fail_msg("before %s: %s", s->name, o->err.message);
        }
        look_at_folder(o->before);
        cx.budget.limit = cap;
        oom_arm(n > 0 ? n : LONG_MAX, onwards);
    }
    if (o->status == TARN_OK) {
        o->status = oom_text(h, "=script", s->script, o);
    }
    o->failed = oom_disarm();
    o->asked = oom_asked();
    look_at_folder(o->after);
    tarn_host_close(h);
    o->left = atomic_load(&cx.budget.used);
    o->peak = atomic_load(&cx.budget.peak);
    tarn_context_free(&cx);
}

// Amounts of bytes, as in "344.5 kB to read", become a #. What a plan reads and takes follows the memory that
// is left, as its run does: a cap leaves less, so under one those numbers are not compared.
static void oom_hide_amounts(char *text) {
    char *out = text;
    for (const char *p = text; *p;) {
        size_t digits = strspn(p, "0123456789.");
        const char *unit = p + digits;
        size_t size = digits > 0 && *unit == ' ' ? 1 + strspn(unit + 1, "kMGT") : 0;
        if (size > 0 && unit[size] == 'B') {
            *out++ = '#';
            p = unit + size + 1;
        } else {
            size_t n = digits > 0 ? digits : 1;
            memmove(out, p, n);
            out += n;
            p += n;
        }
    }
    *out = '\0';
}

static const char *oom_fault(const oom_effort *e, const oom_outcome *want, const oom_outcome *got) {
    if (got->left > 0) {
        return "bytes of the budget are left";
    }
    if (got->status == TARN_OK) {
        return strcmp(got->result, want->result) != 0         ? "another result"
               : strcmp(got->after, want->after) != 0 ? "something else was written" : NULL;
    }
    if (got->err.status != got->status || !*got->err.message) {
        return "no message";
    }
    bool clean = !*got->after || strcmp(got->after, want->before) == 0 || strcmp(got->after, want->after) == 0;
    return clean || e->examples ? NULL : "something was left behind";
}

static void oom_tell(const oom_script *s, const char *how, const char *fault, const oom_outcome *want,
                     const oom_outcome *got) {
    size_t same = 0;
    while (want->result[same] && want->result[same] == got->result[same]) {
        same++;
    }
    print_error("%s, %s: %s (status %d, message '%s', %zu bytes, result …'%.60s')\n", s->name, how, fault,
                (int)got->status, got->err.message, got->left, got->result + same);
}

// Of n things in a row one in how many is taken.
static long oom_stride(const oom_effort *e, long n) {
    long apart = e->most > 0 && n > e->most * e->step ? (n + e->most - 1) / e->most : e->step;
    return apart < n ? apart : n > 1 ? n : 1;
}

// Where in 0 .. 1 the day's samples begin. Multiples of the golden ratio: any run of days is spread evenly.
static double oom_start(const oom_effort *e) {
    double x = (double)e->day * 0.6180339887498949;
    return x - (double)(long)x;
}

// Returns how many runs were faulty.
static int oom_sweep_script(const oom_script *s, const oom_effort *e) {
    static oom_outcome want, got;
    const char *verbose = getenv("TARN_TEST_VERBOSE");
    char how[64];
    clock_t began = clock();
    oom_run(s, 0, false, OOM_CAP, &want);
    if (want.status != TARN_OK) {
        fail_msg("%s: %s", s->name, want.err.message);
    }
    long runs = 0, ended = 0, stride = oom_stride(e, want.asked);
    int faults = 0;
    for (int onwards = 0; onwards < 2; onwards++) {
        for (long n = 1 + (long)(oom_start(e) * (double)stride); n <= want.asked; n += stride) {
            oom_run(s, n, onwards, OOM_CAP, &got);
            const char *fault = oom_fault(e, &want, &got);
            snprintf(how, sizeof how, "allocation %ld%s fails", n, onwards ? " and all later" : "");
            if (verbose) {
                print_message("%s, %s: %s\n", s->name, how,
                              got.status == TARN_OK ? "no error" : got.err.message);
            }
            if (fault && faults++ < 10) {
                oom_tell(s, how, fault, &want, &got);
            }
            runs++;
            ended += got.status != TARN_OK;
        }
    }
    oom_hide_amounts(want.result);
    for (int k = 0; k < e->caps; k++, runs++) {
        size_t cap = (size_t)((double)want.peak * (k + oom_start(e)) / e->caps);
        oom_run(s, 0, false, cap, &got);
        oom_hide_amounts(got.result);
        const char *fault = got.peak > cap && !s->before ? "more than the cap" : oom_fault(e, &want, &got);
        snprintf(how, sizeof how, "a cap of %zu bytes", cap);
        if (fault && faults++ < 10) {
            oom_tell(s, how, fault, &want, &got);
        }
        ended += got.status != TARN_OK;
    }
    if (verbose || !e->examples) {
        print_message("%s: %ld allocations, %ld runs, %ld ended in an error, %.1f s\n", s->name, want.asked, runs, ended,
                      (double)(clock() - began) / CLOCKS_PER_SEC);
    }
    assert_true(ended > 0 || e->examples);
    return faults;
}

static bool oom_wanted(const char *name) {
    const char *only = getenv("TARN_TEST_ONLY");
    return !only || strstr(name, only);
}

// Loading the library's modules is a script of its own; here it would be most of every example. Those that
// it names are loaded before, and no others: all of them take longer than most examples do.
static void oom_load(const char *example, char *before, size_t room) {
    static const char *const modules[] = {"nn.mlp", "data.csv", "train.fit", "eval.nll", "search.cmaes", "probe.fisher"};
    size_t len = (size_t)snprintf(before, room, "local _ = { ");
    for (size_t k = 0; k < sizeof modules / sizeof *modules; k++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "%.*s", (int)(strchr(modules[k], '.') + 1 - modules[k]), modules[k]);
        if (strstr(example, prefix)) {
            len += (size_t)snprintf(before + len, room - len, "%s, ", modules[k]);
        }
    }
    snprintf(before + len, room - len, "}");
}

// The examples of all rows; what they print is their result.
static int oom_sweep_examples(const oom_effort *e) {
    static const char printing[] =
        "local base, a, b, c, said = base, low, high, twin, {} "
        "local os = { tmpname = function() return out .. 'x' end, remove = os.remove } "
        "local function print(...) for i = 1, select('#', ...) do said[#said + 1] = tostring((select(i, ...))) end end ";
    tarn_context cx;
    tarn_host *h = NULL;
    tarn_error err = {0};
    tarn_options co = {.threads = 1, .memory = OOM_CAP};
    int faults = 0;
    assert_int_equal(tarn_context_init(&cx, &co, &err), TARN_OK);
    assert_int_equal(oom_host(&cx, 0, &h, &err), TARN_OK);
    for (int i = 0; i < tarn_host_doc_count(h); i++) {
        const tarn_doc *d = tarn_host_doc_at(h, i);
        if (!d->example || !*d->example || !oom_wanted(d->name)) {
            continue;
        }
        size_t room = sizeof printing + strlen(d->example) + 64;
        char *text = malloc(room), before[256];
        assert_non_null(text);
        snprintf(text, room, "%s do %s\nend return table.concat(said, '\\n')", printing, d->example);
        oom_load(d->example, before, sizeof before);
        oom_script s = {d->name, before, text};
        faults += oom_sweep_script(&s, e);
        free(text);
    }
    tarn_host_close(h);
    tarn_context_free(&cx);
    return faults;
}

static void oom_begin(void) {
    const char *ignored;
    tarn_error err = {0};
    assert_int_equal(chdir(TARN_SOURCE_DIR), 0);
    setenv("TARN_DIGESTS", "off", 1);  // the outcome must not depend on earlier runs
    // Out of memory for good, OpenBLAS's own start never ends: it is opened before.
    assert_int_equal(tarn_blas_describe(&ignored, &err), TARN_OK);
    snprintf(oom_folder, sizeof oom_folder, "/tmp/tarn-oom-XXXXXX");
    assert_non_null(mkdtemp(oom_folder));
    strcat(oom_folder, "/");
}

static void oom_all(const oom_effort *e) {
    int faults = 0;
    oom_begin();
    for (int i = 0; i < OOM_SCRIPTS && !e->examples; i++) {
        if (oom_wanted(oom_scripts[i].name)) {
            faults += oom_sweep_script(&oom_scripts[i], e);
        }
    }
    faults += e->examples ? oom_sweep_examples(e) : 0;
    empty_folder();
    rmdir(oom_folder);
    assert_int_equal(faults, 0);
}

#endif
