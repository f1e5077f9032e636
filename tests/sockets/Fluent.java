// Sends records from standard input with Fluency, acknowledged: Fluent.java PORT TAG.

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.komamitsu.fluency.EventTime;
import org.komamitsu.fluency.fluentd.FluencyBuilderForFluentd;

class Fluent {
    public static void main(String[] arguments) throws Exception {
        // Whatever it complains of is seen.
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        var builder = new FluencyBuilderForFluentd();
        builder.setAckResponseMode(true);
        builder.setWaitUntilBufferFlushed(30);
        var json = new ObjectMapper();
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (var fluency = builder.build("127.0.0.1", Integer.parseInt(arguments[0]))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                var record = json.readValue(line, new TypeReference<Map<String, Object>>() {});
                long nanos = 1_750_000_000_000_000_000L + (Integer) record.get("seq") * 1_000_000_007L;
                var time = EventTime.fromEpoch(nanos / 1_000_000_000, nanos % 1_000_000_000);
                fluency.emit(arguments[1], time, record);
            }
        }
    }
}
