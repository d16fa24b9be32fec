// logits: what llama.cpp computes for a prompt, bit by bit.
//
//   logits MODEL.gguf ID,ID,... OUT
//
// Feeds the ids (no tokenizer is involved) in one call and writes the logits at
// every position to OUT, as float32, one row per position. CPU, one thread, the
// key/value cache in float32, no flash attention, and weights as they lie in the
// file, so that two files with the same tensors give the same bytes.

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(int status, const std::string & why) {
    std::fprintf(stderr, "logits: %s\n", why.c_str());
    std::exit(status);
}

void log_errors_only(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

std::vector<llama_token> ids_of(const std::string & list, int vocabulary) {
    std::vector<llama_token> ids;
    const char * rest = list.c_str();
    while (*rest != '\0') {
        char * end = nullptr;
        const long id = std::strtol(rest, &end, 10);
        if (end == rest || id < 0 || id >= vocabulary || (*end != ',' && *end != '\0')) {
            fail(2, "bad token ids: " + list);
        }
        ids.push_back((llama_token) id);
        rest = *end == ',' ? end + 1 : end;
    }
    return ids;
}

} // namespace

int main(int argc, char ** argv) {
    if (argc != 4) {
        fail(2, "usage: logits MODEL.gguf ID,ID,... OUT");
    }
    llama_log_set(log_errors_only, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_params.use_extra_bufts = false;
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (model == nullptr) {
        fail(1, std::string("cannot load ") + argv[1]);
    }
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::vector<llama_token> prompt = ids_of(argv[2], vocabulary);

    llama_context_params params = llama_context_default_params();
    params.n_ctx           = (uint32_t) prompt.size();
    params.n_batch         = (uint32_t) prompt.size();
    params.n_threads       = 1;
    params.n_threads_batch = 1;
    params.type_k          = GGML_TYPE_F32;
    params.type_v          = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        fail(1, "cannot create a context");
    }
    const int n = (int) prompt.size();
    llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++) {
        batch.token[i]     = prompt[i];
        batch.pos[i]       = i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = 1;
    }
    batch.n_tokens = n;
    if (llama_decode(context, batch) != 0) {
        fail(1, "llama_decode failed");
    }
    FILE * out = std::fopen(argv[3], "wb");
    if (out == nullptr) {
        fail(1, std::string("cannot write ") + argv[3]);
    }
    for (int i = 0; i < n; i++) {
        const float * row = llama_get_logits_ith(context, i);
        if (row == nullptr || std::fwrite(row, sizeof(float), (size_t) vocabulary, out) != (size_t) vocabulary) {
            fail(1, "logits can't be written");
        }
    }
    if (std::fclose(out) != 0) {
        fail(1, "logits can't be written");
    }
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
