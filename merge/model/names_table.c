// SPDX-License-Identifier: Apache-2.0
// Families of networks, as rows. Every expression is searched, so anchors matter; none may
// backtrack without bound, for names come from files. Facts about names are those of the published
// models.
#include "merge/model/names_table.h"

#include <stddef.h>

#define AT "(?:^|\\.)"  // the start of a component
#define LAYERS "(?:layers?|blocks?|resblocks|h)\\.$"

const tarn_stem_row tarn_stem_rows[] = {
    // a whole image generator in one file: its autoencoder has no layers to speak of, its text
    // encoders stand beside the UNet
    {"^first_stage_model\\.", TARN_STEM_INNER, 0},
    {"^(?:cond_stage_model|conditioner)\\.(?:.*\\.)?" LAYERS, TARN_STEM_TOWER, 1},
    {AT "swin(?:v2)?\\.encoder\\.layers\\.$", TARN_STEM_INNER, 0},  // stages; blocks are inside
    {"^(?:text_model|vision_model)\\.encoder\\.layers\\.$", TARN_STEM_TOWER, 1},
    {"^(?:visual\\.)?transformer\\.resblocks\\.$", TARN_STEM_TOWER, 1},
    {AT "(?:vision|visual|image|audio)(?:_tower|_model|_encoder)?\\.(?:.*\\.)?" LAYERS,
     TARN_STEM_STACK, 0},
    {AT "encoder\\.(?:.*\\.)?" LAYERS, TARN_STEM_STACK, 1},
    {AT "decoder\\.(?:.*\\.)?" LAYERS, TARN_STEM_STACK, 3},
    {AT "(?:layers?|blocks|resblocks|h)\\.$", TARN_STEM_STACK, 2},
    {"^block\\.$", TARN_STEM_STACK, 2},
    {AT "layer[0-9]+\\.$", TARN_STEM_STACK, 2},
    {"^(?:transformer_blocks|double_blocks|joint_blocks)\\.$", TARN_STEM_STACK, 2},
    {"^(?:single_transformer_blocks|single_blocks)\\.$", TARN_STEM_STACK, 3},
    {AT "experts\\.$", TARN_STEM_EXPERT, 0},
    {"^$", TARN_STEM_WORD, 0},
    {"^(?:module\\.)?(?:features|main|model|net|seq|sequential)\\.$", TARN_STEM_WORD, 0},
    {AT "conv$", TARN_STEM_WORD, 1},
    {AT "(?:layer|block)$", TARN_STEM_WORD, 2},
    {AT "(?:hidden|linear|lin|dense)$", TARN_STEM_WORD, 3},
    {AT "fc$", TARN_STEM_WORD, 4},
    {AT "(?:bn|gn|ln|norm)$", TARN_STEM_BESIDE, 0},
    {NULL, TARN_STEM_NONE, 0},
};

const tarn_unit_row tarn_unit_rows[] = {
    // diffusers
    {"^down_blocks\\.([0-9]+)\\.(?:resnets|attentions)\\.([0-9]+)\\.", TARN_UNIT_ENCODE,
     TARN_UNIT_PLAIN, false, true},
    {"^conv_in\\.", TARN_UNIT_ENCODE, TARN_UNIT_PLAIN, true, false},
    {"^down_blocks\\.([0-9]+)\\.downsamplers\\.", TARN_UNIT_ENCODE, TARN_UNIT_AFTER, false, false},
    {"^mid_block\\.", TARN_UNIT_MIDDLE, TARN_UNIT_PLAIN, false, false},
    {"^up_blocks\\.([0-9]+)\\.(?:resnets|attentions)\\.([0-9]+)\\.", TARN_UNIT_DECODE,
     TARN_UNIT_PLAIN, false, false},
    {"^up_blocks\\.([0-9]+)\\.upsamplers\\.", TARN_UNIT_DECODE, TARN_UNIT_LAST, false, false},
    // the layout first published
    {"^(?:model\\.diffusion_model\\.)?input_blocks\\.([0-9]+)\\.", TARN_UNIT_ENCODE,
     TARN_UNIT_PLAIN, false, true},
    {"^(?:model\\.diffusion_model\\.)?middle_block\\.", TARN_UNIT_MIDDLE, TARN_UNIT_PLAIN, false,
     false},
    {"^(?:model\\.diffusion_model\\.)?output_blocks\\.([0-9]+)\\.", TARN_UNIT_DECODE,
     TARN_UNIT_PLAIN, false, false},
    {NULL, TARN_UNIT_ENCODE, TARN_UNIT_PLAIN, false, false},
};

// The narrow before the broad: "norm" would take k_norm, "conv" almost anything.
const tarn_role_row tarn_role_rows[] = {
    {"adapter.A", "\\.lora_(?:embedding_)?A(?:\\.|$)"},
    {"adapter.B", "\\.lora_(?:embedding_)?B(?:\\.|$)"},
    {"adapter.magnitude", "\\.lora_magnitude"},
    {"norm.count", "\\.num_batches_tracked$"},
    {"norm.stat", "\\.running_(?:mean|var)$"},
    {"norm.qk", "\\.(?:[qk]_norm|[qk]_layernorm|kv_a_layernorm|q_a_layernorm)\\."},
    {"mlp.scale", "\\.(?:layer_scale_parameter|lambda_2|layer_scale2\\.lambda1)$"},
    {"attention.scale", "\\.(?:lambda_1|layer_scale1\\.lambda1)$"},
    {"norm", "[nN]orm|layrnorm|" AT "(?:ln|bn|gn)(?:_|[0-9]*\\.)|downsample\\.1\\."
             "|downsampling_layer\\.0\\."},

    {"mlp.shared.gate", "\\.shared_experts?\\.(?:gate_proj|w1)\\."},
    {"mlp.shared.up", "\\.shared_experts?\\.(?:up_proj|w3)\\."},
    {"mlp.shared.down", "\\.shared_experts?\\.(?:down_proj|w2)\\."},
    {"expert.gate_up", "\\.experts\\.(?:[0-9]+\\.)?gate_up_proj"},
    {"expert.gate", "\\.experts\\.(?:[0-9]+\\.)?(?:gate_proj|w1)(?:\\.|$)"},
    {"expert.up", "\\.experts\\.(?:[0-9]+\\.)?(?:up_proj|w3)(?:\\.|$)"},
    {"expert.down", "\\.experts\\.(?:[0-9]+\\.)?(?:down_proj(?:_bias)?|w2)(?:\\.|$)"},
    {"router", "\\.(?:mlp|block_sparse_moe|moe|feed_forward)\\.(?:gate|router)\\."},
    {"ssm", "\\.(?:mixer|mamba|ssm)\\."},

    {"mlp.gate_up", "\\.(?:gate_up_proj|ff\\.net\\.0\\.proj)\\."},
    {"mlp.gate", "\\.(?:gate_proj|w1|wi_0)\\."},
    {"mlp.up", "\\.(?:up_proj|c_fc|fc1|fc_in|dense_h_to_4h|w3|wi|wi_1|lin1|pwconv1)\\."
               "|\\.intermediate(?:\\.dense|_dense)?\\."},
    {"mlp.down", "\\.(?:down_proj|mlp\\.c_proj|fc2|fc_out|dense_4h_to_h|w2|DenseReluDense\\.wo|lin2"
                 "|pwconv2|output_dense|ff\\.net\\.2)\\.|(?<!attention)\\.output\\.dense\\."},

    {"attention.sink", "\\.sinks$"},
    {"attention.position", "relative_(?:attention|position)_bias"},
    {"attention.kv_a", "\\.kv_a_proj"},
    {"attention.kv_b", "\\.kv_b_proj"},
    {"attention.q_a", "\\.q_a_proj"},
    {"attention.q_b", "\\.q_b_proj"},
    {"attention.qkv", "\\.(?:query_key_value|c_attn|qkv_proj|W?qkv|Wqkv|in_proj_(?:weight|bias))"
                      "(?:\\.|$)"},
    {"attention.cross.q", "(?:encoder_attn\\.q_proj|EncDecAttention\\.q|attn2\\.to_q)\\."},
    {"attention.cross.k", "(?:encoder_attn\\.k_proj|EncDecAttention\\.k|attn2\\.to_k)\\."},
    {"attention.cross.v", "(?:encoder_attn\\.v_proj|EncDecAttention\\.v|attn2\\.to_v)\\."},
    {"attention.cross.o", "(?:encoder_attn\\.out_proj|EncDecAttention\\.o|attn2\\.to_out\\.0)\\."},
    {"attention.q", "\\.(?:q_proj|query|q_lin|SelfAttention\\.q|to_q|wq)\\."},
    {"attention.k", "\\.(?:k_proj|key|k_lin|SelfAttention\\.k|to_k|wk)\\."},
    {"attention.v", "\\.(?:v_proj|value|v_lin|SelfAttention\\.v|to_v|wv)\\."},
    {"attention.o", "\\.(?:o_proj|out_proj|out_lin|SelfAttention\\.o|to_out\\.0"
                    "|attn\\.(?:c_proj|proj)|(?:self_)?attention\\.dense|attention\\.wo"
                    "|attention\\.output\\.dense|self_attn\\.dense)\\."},
    {"attention.in", "\\.attentions\\.[0-9]+\\.proj_in\\."},
    {"attention.out", "\\.attentions\\.[0-9]+\\.proj_out\\."},
    {"time", "\\.time_emb_proj\\."},
    {"conv", "conv|shortcut|samplers?\\.|downsampl"},
    {NULL, NULL},
};

const tarn_place_row tarn_place_rows[] = {
    {"downsampling_layer|" AT "downsample\\.", TARN_PLACE_TRANSITION},
    {AT "(?:lm_head|embed_out|cls|pooler|classifier|score|fc|heads?|qa_outputs|logit_scale"
        "|project_out|(?:text_|visual_)projection|conv_norm_out|conv_out)(?:\\.|$)|" AT "vocab_",
     TARN_PLACE_HEAD},
    {"embeddings?\\.|" AT "(?:(?:tok|pos|patch|token)_embed|embed|cls_token|class_token|dist_token"
     "|positional_embedding|pos_embedding|wte|wpe|shared|stem|project_in|pre_layrnorm|ln_pre"
     "|time_embed|label_emb|conv_proj|emb)",
     TARN_PLACE_EMBED},
    {"^(?:module\\.)?(?:conv1|bn1)\\.", TARN_PLACE_EMBED},  // a ResNet's stem
    {AT "encoder\\.conv[12]\\.", TARN_PLACE_EMBED},         // Whisper's
    {AT "(?:norm|norm_f|norm_out|ln_f|ln_out|ln_final|ln_post|final_norm|final_layer_?norm"
        "|post_layernorm|layer_?norm|fc_norm)\\.",
     TARN_PLACE_FINAL},
    {"^(?:model\\.diffusion_model\\.)?out\\.", TARN_PLACE_HEAD},
    {NULL, TARN_PLACE_OTHER},
};

const char *const tarn_tokenless_rows[] = {
    "(?:position|token_type|patch)_embeddings?(?:\\.|$)|[nN]orm\\.|" AT "(?:embed_positions|pos_embed|patch_embed"
    "|positional_embedding|pos_embedding|position_embed|wpe|stem|conv|time_embed|label_emb|ln_|pre_layrnorm)",
    "\\.transform\\.|" AT "(?:pooler|project_in|project_out|(?:text_|visual_)projection)\\.",
    NULL,
};

const tarn_buffer_row tarn_buffer_rows[] = {
    {"\\.num_batches_tracked$", 0},
    {"\\.running_(?:mean|var)$", 0},
    {"\\.(?:inv_freq|cos_cached|sin_cached)$", 0},
    {AT "(?:position_ids|token_type_ids|relative_position_index|relative_coords_table)$", 0},
    {"\\.(?:attn|attention)\\.bias$", 3},  // causal masks, [1, 1, n, n]
    {"\\.(?:attn|attention)\\.masked_bias$", 0},
    {"\\.attn_mask$", 0},
    {NULL, 0},
};

const tarn_tie_row tarn_tie_rows[] = {
    {"model.embed_tokens.weight", "lm_head.weight", NULL, true},
    {"model.decoder.embed_tokens.weight", "lm_head.weight", NULL, true},
    {"model.language_model.embed_tokens.weight", "lm_head.weight", NULL, true},
    {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight", NULL, true},
    {"transformer.wte.weight", "lm_head.weight", NULL, true},
    {"wte.weight", "lm_head.weight", NULL, true},
    {"transformer.word_embeddings.weight", "lm_head.weight", NULL, true},
    {"word_embeddings.weight", "lm_head.weight", NULL, true},
    {"model.decoder.embed_tokens.weight", "proj_out.weight", "model.encoder.conv1.weight", true},
    {"backbone.embeddings.weight", "lm_head.weight", NULL, true},
    {"gpt_neox.embed_in.weight", "embed_out.weight", NULL, true},
    {"bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight",
     "cls.predictions.bias", true},
    {"cls.predictions.bias", "cls.predictions.decoder.bias", NULL, false},
    {"roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.bias", true},
    {"lm_head.bias", "lm_head.decoder.bias", "roberta.embeddings.word_embeddings.weight", false},
    {"distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight",
     "vocab_projector.bias", true},
    {"shared.weight", "encoder.embed_tokens.weight", NULL, false},
    {"shared.weight", "decoder.embed_tokens.weight", "decoder.final_layer_norm.weight", false},
    {"shared.weight", "lm_head.weight", "decoder.final_layer_norm.weight", true},
    {"model.shared.weight", "model.encoder.embed_tokens.weight", NULL, false},
    {"model.shared.weight", "model.decoder.embed_tokens.weight", NULL, false},
    {"model.shared.weight", "lm_head.weight", NULL, true},
    {NULL, NULL, NULL, false},
};

const tarn_fused_row tarn_fused_rows[] = {
    {"attention.qkv", {"attention.q", "attention.k", "attention.v", NULL}},
    {"mlp.gate_up", {"mlp.gate", "mlp.up", NULL}},
    {"expert.gate_up", {"expert.gate", "expert.up", NULL}},
    {NULL, {NULL}},
};

const char *const tarn_untied_types[] = {
    "codegen",     "deepseek_v2", "deepseek_v3", "glm",     "gpt_neox", "gpt_oss",   "gptj",
    "granite",     "internlm2",   "llama",       "llama4",  "mistral",  "mixtral",   "olmo",
    "olmo2",       "persimmon",   "phi",         "phi3",    "phimoe",   "qwen2",     "qwen2_moe",
    "qwen3",       "qwen3_moe",   "stablelm",    NULL,
};

const char tarn_head_architectures[] =
    "LMHead|DoubleHeads|For(?:CausalLM|MaskedLM|PreTraining|ConditionalGeneration"
    "|ImageTextToText|Multimodal)";
