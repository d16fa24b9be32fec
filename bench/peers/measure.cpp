// measure: how long llama.cpp takes for what `apr bench` and `apr run` are timed with.
//
//   measure bench MODEL.gguf THREADS N_PROMPT N_GEN DEPTH REPETITIONS [STATE]
//   measure run   MODEL.gguf THREADS N_GEN PROMPT
//
// `bench` loads the model once, warms up, and times inside the process: prompts of N_PROMPT random tokens in an empty
// context, and N_GEN random tokens one by one behind DEPTH tokens, REPETITIONS times each. It prints one JSON object
// with the milliseconds of each repetition. Filling DEPTH tokens takes minutes; STATE names a file that keeps the
// filled cache from one call to the next.
//
// `run` is a whole process: it loads, reads the prompt and prints N_GEN tokens of greedy text as they come.
//
// CPU only, and llama.cpp's defaults otherwise: f16 cache, flash attention where it chooses to, repacked weights,
// micro-batches of 512. The context is as long as needed and no longer, which favours it. Bind its threads from
// outside (OMP_PROC_BIND=true OMP_PLACES="{0},{1}"): unbound, both can end up on one processor.

#include "llama.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// Prints a message and ends the program: status 2 for bad arguments, 1 otherwise.
[[noreturn]] void fail(int status, const std::string & why) {
    std::fprintf(stderr, "measure: %s\n", why.c_str());
    std::exit(status);
}

// Reads one whole decimal number in [low, high] from text.
int number(const std::string & text, long low, long high, const char * what) {
    errno = 0;
    char * end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || errno != 0 || value < low || value > high) {
        fail(2, std::string("bad ") + what + ": '" + text + "'");
    }
    return (int) value;
}

double elapsed_ms(Clock::time_point since) {
    return std::chrono::duration<double, std::milli>(Clock::now() - since).count();
}

// llama.cpp logs every detail of the model; only its errors matter here.
void log_errors_only(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

llama_model * load(const char * path) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file(path, params);
    if (model == nullptr) {
        fail(1, std::string("cannot load ") + path);
    }
    return model;
}

llama_context * context_for(llama_model * model, int n_tokens, int threads) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx           = (uint32_t) n_tokens;
    params.n_batch         = 2048;
    params.n_ubatch        = 512;
    params.n_threads       = threads;
    params.n_threads_batch = threads;
    params.no_perf         = true;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        fail(1, "cannot create a context");
    }
    return context;
}

// Feeds tokens in batches of at most 2048 and waits for the result.
void feed(llama_context * context, std::vector<llama_token> & tokens) {
    for (size_t start = 0; start < tokens.size(); start += 2048) {
        const size_t n = std::min<size_t>(2048, tokens.size() - start);
        if (llama_decode(context, llama_batch_get_one(tokens.data() + start, (int32_t) n)) != 0) {
            fail(1, "llama_decode failed");
        }
    }
    llama_synchronize(context);
}

struct Random {
    std::mt19937 generator{1};
    std::uniform_int_distribution<llama_token> id;

    explicit Random(int vocabulary) : id(0, vocabulary - 1) {}

    std::vector<llama_token> tokens(int n) {
        std::vector<llama_token> ids((size_t) n);
        std::generate(ids.begin(), ids.end(), [&] { return id(generator); });
        return ids;
    }
};

// Fills the context with `depth` tokens: from the file where it is there, else by computing them.
void fill(llama_context * context, Random & random, int depth, const char * state) {
    std::vector<llama_token> tokens((size_t) depth);
    if (state != nullptr && std::ifstream(state).good()) {
        size_t n_kept = 0;
        if (llama_state_seq_load_file(context, state, 0, tokens.data(), tokens.size(), &n_kept) == 0 ||
            n_kept != tokens.size()) {
            fail(1, std::string(state) + " is not a state of this model and depth; remove it");
        }
        return;
    }
    tokens = random.tokens(depth);
    feed(context, tokens);
    if (state != nullptr && llama_state_seq_save_file(context, state, 0, tokens.data(), tokens.size()) == 0) {
        fail(1, std::string("cannot write ") + state);
    }
}

void print_samples(const char * name, const std::vector<double> & samples_ms, const char * end) {
    std::printf("\"%s\": [", name);
    for (size_t i = 0; i < samples_ms.size(); i++) {
        std::printf("%s%.3f", i == 0 ? "" : ", ", samples_ms[i]);
    }
    std::printf("]%s", end);
}

int bench(int argc, char ** argv) {
    if (argc != 8 && argc != 9) {
        fail(2, "usage: measure bench MODEL.gguf THREADS N_PROMPT N_GEN DEPTH REPETITIONS [STATE]");
    }
    const int threads  = number(argv[3], 1, 1024, "number of threads");
    const int n_prompt = number(argv[4], 0, 1 << 20, "length of the prompt");
    const int n_gen    = number(argv[5], 0, 1 << 20, "number of tokens");
    const int depth    = number(argv[6], 0, 1 << 20, "depth");
    const int n_reps   = number(argv[7], 1, 1000, "number of repetitions");

    llama_model * model = load(argv[2]);
    llama_context * context = context_for(model, depth + std::max(n_prompt, n_gen) + 8, threads);
    llama_memory_t memory = llama_get_memory(context);
    Random random(llama_vocab_n_tokens(llama_model_get_vocab(model)));

    std::vector<double> prefill_ms, decode_ms;
    for (int repetition = -1; n_prompt > 0 && repetition < n_reps; repetition++) { // -1 warms up
        llama_memory_clear(memory, false);
        std::vector<llama_token> prompt = random.tokens(n_prompt);
        const Clock::time_point start = Clock::now();
        feed(context, prompt);
        if (repetition >= 0) {
            prefill_ms.push_back(elapsed_ms(start));
        }
    }
    llama_memory_clear(memory, false);
    if (n_gen > 0 && depth > 0) {
        fill(context, random, depth, argc == 9 ? argv[8] : nullptr);
    }
    for (int repetition = -1; n_gen > 0 && repetition < n_reps; repetition++) { // -1 warms up, with fewer tokens
        llama_memory_seq_rm(memory, 0, depth, -1);
        std::vector<llama_token> one = random.tokens(1);
        const Clock::time_point start = Clock::now();
        for (int i = 0; i < (repetition < 0 ? std::min(n_gen, 8) : n_gen); i++) {
            feed(context, one);
            one = random.tokens(1);
        }
        if (repetition >= 0) {
            decode_ms.push_back(elapsed_ms(start));
        }
    }

    std::printf("{");
    print_samples("prefill_ms", prefill_ms, ", ");
    print_samples("decode_ms", decode_ms, "}\n");
    llama_free(context);
    llama_model_free(model);
    return 0;
}

int run(int argc, char ** argv) {
    if (argc != 6) {
        fail(2, "usage: measure run MODEL.gguf THREADS N_GEN PROMPT");
    }
    const int threads = number(argv[3], 1, 1024, "number of threads");
    const int n_gen   = number(argv[4], 1, 1 << 20, "number of tokens");
    const std::string text = argv[5];

    llama_model * model = load(argv[2]);
    const llama_vocab * vocab = llama_model_get_vocab(model);
    std::vector<llama_token> tokens(text.size() + 8);
    const int n_prompt =
        llama_tokenize(vocab, text.data(), (int32_t) text.size(), tokens.data(), (int32_t) tokens.size(), true, true);
    if (n_prompt <= 0) {
        fail(1, "the prompt gives no tokens");
    }
    tokens.resize((size_t) n_prompt);
    llama_context * context = context_for(model, n_prompt + n_gen + 8, threads);
    const int vocabulary = llama_vocab_n_tokens(vocab);

    for (int i = 0; i < n_gen; i++) {
        feed(context, tokens);
        const float * logits = llama_get_logits_ith(context, -1);
        if (logits == nullptr) {
            fail(1, "no logits");
        }
        tokens.assign(1, (llama_token) (std::max_element(logits, logits + vocabulary) - logits));
        char piece[256];
        const int n = llama_token_to_piece(vocab, tokens[0], piece, sizeof piece, 0, true);
        std::fwrite(piece, 1, (size_t) std::max(n, 0), stdout);
        std::fflush(stdout);
    }
    std::printf("\n");
    std::fprintf(stderr, "{\"n_prompt_tokens\": %d}\n", n_prompt);
    llama_free(context);
    llama_model_free(model);
    return 0;
}

} // namespace

int main(int argc, char ** argv) {
    llama_log_set(log_errors_only, nullptr);
    llama_backend_init();
    const std::string what = argc > 1 ? argv[1] : "";
    int status = 2;
    if (what == "bench") {
        status = bench(argc, argv);
    } else if (what == "run") {
        status = run(argc, argv);
    } else {
        fail(2, "usage: measure bench|run …");
    }
    llama_backend_free();
    return status;
}
