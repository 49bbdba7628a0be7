// Threads that share the work of a call: those of the OpenMP library that torch computes with, where there is one.
//
// Its threads are awake between two operators of a model, while threads of our own would wait for them to give up the
// core. The library is not linked: a caller passes the addresses of two of its functions.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "language.h"

// structs.py has the same fields in the same order. A kernel that takes a null pointer in its place works alone.
struct Team {
    void (*run)(void (*work)(void*), void* data, unsigned n_threads, unsigned flags);  // GOMP_parallel, or null
    int (*own_number)();  // omp_get_thread_num of the same library
    int64_t process;      // where it may be called: the threads of a parent do not live on in a fork
    int64_t n_threads;
};

constexpr int MOST_THREADS = 256;

// The parts [0, n) of a work, shared between some threads. Each takes its own share in pieces, and then what others have
// left: so all is done even where fewer threads come than were asked for, and nobody waits long for a slow one.
class Shares {
public:
    Shares(int64_t n_parts, int n_threads) : n(n_parts), n_shares(n_threads) {
        for (int i = 0; i < n_threads; i++) n_taken[i].store(0, std::memory_order_relaxed);
    }

    // task(begin, end) with pieces of the parts until none is left, for the thread of a number.
    template <class Task>
    void take(int thread, Task task) {
        for (int i = 0; i < n_shares; i++) {
            const int64_t share = (thread + i) % n_shares;
            for (int64_t piece; (piece = n_taken[share].fetch_add(1, std::memory_order_relaxed)) < PIECES;) {
                const int64_t at = share * PIECES + piece, begin = edge(at), end = edge(at + 1);
                if (begin < end) task(begin, end);
            }
        }
    }

private:
    static constexpr int64_t PIECES = 4;  // of a share
    int64_t edge(int64_t piece) const { return n * piece / (n_shares * PIECES); }

    int64_t n;
    int n_shares;
    std::atomic<int32_t> n_taken[MOST_THREADS];  // pieces of each share
};

// Runs work(number) on up to n_threads threads with different numbers < n_threads, and waits for their ends.
template <class Work>
static void run_on(const Team& team, int n_threads, Work& work) {
    struct Call {
        Work& work;
        int (*own_number)();
        std::atomic<int> n_started{1};
    } call{work, team.own_number};
    if (team.run && team.own_number && team.process == getpid()) {
        auto run = [](void* data) {
            auto& of = *static_cast<Call*>(data);
            of.work(of.own_number());
        };
        return team.run(run, &call, n_threads, 0);
    }
    auto run = [](void* data) -> void* {
        auto& of = *static_cast<Call*>(data);
        of.work(of.n_started++);
        return nullptr;
    };
    pthread_t threads[MOST_THREADS];
    int n = 0;
    while (n < n_threads - 1 && pthread_create(&threads[n], nullptr, run, &call) == 0) n++;
    work(0);
    while (n > 0) pthread_join(threads[--n], nullptr);
}

// Shares the parts [0, n) of a work. Every thread calls work(take) once, which makes what it needs, and then takes its
// pieces by take(task): see Shares. Returns the Outcome of a thread, of which DONE is the last to be returned; after
// another one, parts may be left.
template <class Work>
static int32_t share(const Team* team, int64_t n, Work work) {
    const int n_threads = static_cast<int>(smaller(smaller(team ? team->n_threads : 1, MOST_THREADS), n));
    if (n_threads <= 1) return n > 0 ? work([&](auto task) { task(int64_t{0}, n); }) : 0;
    Shares shares(n, n_threads);
    std::atomic<int32_t> worst{0};
    auto of_thread = [&](int thread) {
        if (int32_t outcome = work([&](auto task) { shares.take(thread, task); })) worst = outcome;
    };
    run_on(*team, n_threads, of_thread);
    return worst;
}
