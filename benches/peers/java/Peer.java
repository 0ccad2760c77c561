// Peer benchmarks, Java virtual threads. Compiled by javac 17, run by a newer
// runtime, so Thread.startVirtualThread is reached through a MethodHandle.
// Usage: java Peer NAME [procs]
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.atomic.AtomicInteger;

public class Peer {
    static final MethodHandle START;
    static {
        try {
            START = MethodHandles.lookup().findStatic(Thread.class, "startVirtualThread",
                    MethodType.methodType(Thread.class, Runnable.class));
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    interface Body {
        void run() throws Exception;
    }

    static Thread go(Body b) {
        try {
            return (Thread) START.invokeExact((Runnable) () -> {
                try {
                    b.run();
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            });
        } catch (Throwable t) {
            throw new RuntimeException(t);
        }
    }

    static final long BEGAN = System.nanoTime();
    static int procs = 2;
    static String workload;

    static long[] repeat(Body b) throws Exception {
        go(b).join();
        String times = System.getenv("PEER_REPEAT");
        long[] out = new long[times == null ? 5 : Integer.parseInt(times)];
        int k = 0;
        while (k < out.length && (k == 0 || System.nanoTime() - BEGAN < 45_000_000_000L)) {
            long t = System.nanoTime();
            go(b).join();
            out[k++] = System.nanoTime() - t;
        }
        return Arrays.copyOf(out, k);
    }

    static void emit(String metric, double[] v, int n, String note) {
        Arrays.sort(v);
        System.out.printf("{\"peer\":\"java\",\"workload\":\"%s\",\"procs\":%d,\"metric\":\"%s\",\"value\":%.3f,\"min\":%.3f,\"max\":%.3f,\"runs\":%d,\"note\":\"%s\",\"n\":%d}%n",
                workload, procs, metric, v[v.length / 2], v[0], v[v.length - 1], v.length, note, n);
    }

    static void perOp(int n, String note, Body b) throws Exception {
        emit("ns_per_op", Arrays.stream(repeat(b)).mapToDouble(d -> (double) d / n).toArray(), n, note);
    }

    static void millis(int n, String note, Body b) throws Exception {
        emit("ms", Arrays.stream(repeat(b)).mapToDouble(d -> d / 1e6).toArray(), n, note);
    }

    static void spawnJoin(int n) throws Exception {
        CountDownLatch left = new CountDownLatch(n);
        Body b = left::countDown;
        for (int i = 0; i < n; i++) go(b);
        left.await();
    }

    static void spawnJoinOne(int n) throws Exception {
        Body b = () -> {};
        for (int i = 0; i < n; i++) go(b).join();
    }

    static void yields(int threads, int n) throws Exception {
        Thread[] ts = new Thread[threads];
        for (int i = 0; i < threads; i++) {
            ts[i] = go(() -> {
                for (int j = 0; j < n / threads; j++) Thread.yield();
            });
        }
        for (Thread t : ts) t.join();
    }

    static void pingpong(int n) throws Exception {
        SynchronousQueue<Integer> a = new SynchronousQueue<>(), b = new SynchronousQueue<>();
        go(() -> {
            for (int i = 0; i < n; i++) b.put(a.take());
        });
        for (int i = 0; i < n; i++) {
            a.put(i);
            b.take();
        }
    }

    static void node(SynchronousQueue<Long> out, long num, long size) throws Exception {
        if (size == 1) {
            out.put(num);
            return;
        }
        SynchronousQueue<Long> c = new SynchronousQueue<>();
        for (int i = 0; i < 10; i++) {
            long first = num + i * size / 10;
            go(() -> node(c, first, size / 10));
        }
        long sum = 0;
        for (int i = 0; i < 10; i++) sum += c.take();
        out.put(sum);
    }

    static void skynet(long n) throws Exception {
        SynchronousQueue<Long> c = new SynchronousQueue<>();
        go(() -> node(c, 0, n));
        if (c.take() != n * (n - 1) / 2) throw new AssertionError();
    }

    static double rss() throws Exception {
        for (String l : Files.readAllLines(Path.of("/proc/self/status")))
            if (l.startsWith("VmRSS:")) return Double.parseDouble(l.replaceAll("[^0-9]", "")) * 1024;
        return 0;
    }

    static double heap() {
        System.gc();
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    static void memory(int n) throws Exception {
        go(() -> {}).join();
        double heap0 = heap(), rss0 = rss();
        CountDownLatch block = new CountDownLatch(1);
        AtomicInteger started = new AtomicInteger();
        Body b = () -> {
            started.incrementAndGet();
            block.await();
        };
        Thread[] keep = new Thread[n]; // virtual threads may be collected else
        long t = System.nanoTime();
        for (int i = 0; i < n; i++) keep[i] = go(b);
        while (started.get() < n) Thread.sleep(1);
        long took = System.nanoTime() - t;
        Thread.sleep(300);
        double heap1 = heap(), rss1 = rss();
        emit("bytes_per_goroutine", new double[] {(rss1 - rss0) / n}, n, "VmRSS delta after System.gc(), default G1");
        emit("heap_bytes_per_goroutine", new double[] {(heap1 - heap0) / n}, n, "used heap delta after System.gc()");
        emit("create_ns", new double[] {(double) took / n}, n, "");
        if (keep[0] == null) throw new AssertionError();
    }

    public static void main(String[] args) throws Exception {
        workload = args[0];
        if (args.length > 1) procs = Integer.parseInt(args[1]);
        switch (workload) {
            case "spawn_join" -> perOp(1_000_000, "CountDownLatch", () -> spawnJoin(1_000_000));
            case "spawn_join_one" -> perOp(200_000, "Thread.join", () -> spawnJoinOne(200_000));
            case "yield_2" -> perOp(4_000_000, "", () -> yields(2, 4_000_000));
            case "yield_1000" -> perOp(4_000_000, "", () -> yields(1000, 4_000_000));
            case "pingpong" -> perOp(1_000_000, "SynchronousQueue", () -> pingpong(1_000_000));
            case "skynet" -> millis(1_000_000, "SynchronousQueue", () -> skynet(1_000_000));
            case "skynet_10k" -> millis(10_000, "SynchronousQueue", () -> skynet(10_000));
            case "memory_25k" -> memory(25_000);
            case "memory_100k" -> memory(100_000);
            case "memory_1m" -> memory(1_000_000);
            default -> {
                System.err.println("unknown workload " + workload);
                System.exit(3);
            }
        }
        System.out.flush();
        System.exit(0);
    }
}
