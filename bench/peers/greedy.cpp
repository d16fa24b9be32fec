// greedy: the smallest useful llama.cpp program, for comparing token ids.
//
//   greedy MODEL.gguf ID,ID,... N [THREADS]
//
// It feeds the prompt ids (no tokenizer is involved), then N times takes the
// token with the highest logit and feeds it back. The N ids are printed as one
// JSON array. End-of-text tokens do not stop it: the caller decides what to
// compare. CPU only. The key/value cache is kept in float32 and flash attention
// is off, so that what remains of the difference to a float32 reference comes
// from the weights' type and the order of additions alone.

#include "llama.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

// Prints a message and ends the program: status 2 for bad arguments, 1 otherwise.
[[noreturn]] void fail(int status, const std::string & why) {
    std::fprintf(stderr, "greedy: %s\n", why.c_str());
    std::exit(status);
}

// Reads one whole decimal number in [low, high] from text.
long number(const std::string & text, long low, long high, const char * what) {
    errno = 0;
    char * end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || errno != 0 || value < low || value > high) {
        fail(2, std::string("bad ") + what + ": '" + text + "'");
    }
    return value;
}

// Splits "1,2,3" into ids, each of them inside the vocabulary.
std::vector<llama_token> parse_ids(const std::string & list, int vocabulary) {
    std::vector<llama_token> ids;
    size_t start = 0;
    while (start <= list.size()) {
        const size_t comma = std::min(list.find(',', start), list.size());
        const std::string one = list.substr(start, comma - start);
        ids.push_back((llama_token) number(one, 0, vocabulary - 1, "token id"));
        start = comma + 1;
    }
    return ids;
}

// llama.cpp logs every detail of the model; only its errors matter here.
void log_errors_only(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

} // namespace

int main(int argc, char ** argv) {
    if (argc != 4 && argc != 5) {
        fail(2, "usage: greedy MODEL.gguf ID,ID,... N [THREADS]");
    }
    const int wanted  = (int) number(argv[3], 1, 1 << 20, "number of tokens");
    const int threads = argc == 5 ? (int) number(argv[4], 1, 1024, "number of threads") : 1;

    llama_log_set(log_errors_only, nullptr);
    llama_backend_init();

    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (model == nullptr) {
        fail(1, std::string("cannot load ") + argv[1]);
    }
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::vector<llama_token> prompt = parse_ids(argv[2], vocabulary);

    llama_context_params params = llama_context_default_params();
    params.n_ctx           = (uint32_t) (prompt.size() + wanted);
    params.n_batch         = (uint32_t) prompt.size(); // the whole prompt in one call
    params.n_threads       = threads;
    params.n_threads_batch = threads;
    params.type_k          = GGML_TYPE_F32;
    params.type_v          = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.no_perf         = true;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        fail(1, "cannot create a context");
    }

    std::vector<llama_token> generated;
    llama_batch batch = llama_batch_get_one(prompt.data(), (int32_t) prompt.size());
    llama_token next = 0; // lives here because the batch points to it
    while (true) {
        if (llama_decode(context, batch) != 0) {
            fail(1, "llama_decode failed");
        }
        // The last position's logits; the lowest id wins a tie, as argmax does.
        const float * logits = llama_get_logits_ith(context, -1);
        if (logits == nullptr) {
            fail(1, "no logits");
        }
        next = (llama_token) (std::max_element(logits, logits + vocabulary) - logits);
        generated.push_back(next);
        if ((int) generated.size() == wanted) {
            break;
        }
        batch = llama_batch_get_one(&next, 1);
    }

    std::printf("[");
    for (size_t i = 0; i < generated.size(); i++) {
        std::printf("%s%d", i == 0 ? "" : ", ", generated[i]);
    }
    std::printf("]\n");

    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
