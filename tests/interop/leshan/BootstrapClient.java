import static org.eclipse.leshan.core.LwM2mId.ACCESS_CONTROL;
import static org.eclipse.leshan.core.LwM2mId.DEVICE;
import static org.eclipse.leshan.core.LwM2mId.SECURITY;
import static org.eclipse.leshan.core.LwM2mId.SERVER;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Device;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.LwM2mInstanceEnabler;
import org.eclipse.leshan.client.resource.LwM2mObjectEnabler;
import org.eclipse.leshan.client.resource.ObjectEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.resource.SimpleInstanceEnabler;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.request.BootstrapRequest;
import org.eclipse.leshan.core.request.ContentFormat;
import org.eclipse.leshan.core.request.RegisterRequest;
import org.eclipse.leshan.core.request.UpdateRequest;
import org.eclipse.leshan.transport.californium.client.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coap.CoapClientProtocolProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coaps.CoapsClientProtocolProvider;

/**
 * A device on Leshan's client that knows nothing but a bootstrap server: objects 0, 1, 2 and 3. It says on stdout what
 * happens ("bootstrap started URI", "bootstrapped", "bootstrap refused 4.00 ...", "registered URI /rd/...") and takes
 * "accounts" (says what stands in objects 0, 1 and 2, keys as their hash), "update", "again" (a restart that keeps what
 * it was given) and "stop" on stdin.
 *
 * <p>Arguments: URL of the bootstrap server, endpoint name, the Content-Format it prefers ("-": it names none), and with a
 * coaps URL "psk", identity and key (hex), or "rpk" or "x509" and a folder with client-key.pem, client-public.pem or
 * client.pem, and server-public.pem or server.pem. The property "session" says after how many seconds it gives a bootstrap
 * session up.
 */
public final class BootstrapClient {

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static byte[] pem(String folder, String name) throws Exception {
        String text = Files.readString(Path.of(folder, name + ".pem"));
        String first = text.substring(0, text.indexOf("-----END"));
        return Base64.getDecoder().decode(first.replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", ""));
    }

    private static Security account(String url, String[] words) throws Exception {
        if (!url.startsWith("coaps:")) {
            return Security.noSecBootstrap(url);
        }
        return switch (words[3]) {
            case "psk" -> Security.pskBootstrap(url, words[4].getBytes("UTF-8"), HexFormat.of().parseHex(words[5]));
            case "rpk" -> Security.rpkBootstrap(
                    url, pem(words[4], "client-public"), pem(words[4], "client-key"), pem(words[4], "server-public"));
            case "x509" -> Security.x509Bootstrap(
                    url, pem(words[4], "client"), pem(words[4], "client-key"), pem(words[4], "server"));
            default -> throw new IllegalArgumentException(words[3]);
        };
    }

    private static String shown(Object value) {
        if (value instanceof byte[] bytes) {
            return bytes.length == 0 ? "-" : Integer.toHexString(java.util.Arrays.hashCode(bytes));
        }
        return String.valueOf(value);
    }

    /** Every instance of an object with its resources, as the client itself reads them. */
    private static void tell(LwM2mObjectEnabler object) {
        if (!(object instanceof ObjectEnabler)) {
            return;
        }
        for (int id : object.getAvailableInstanceIds()) {
            LwM2mInstanceEnabler instance = ((ObjectEnabler) object).getInstance(id);
            Map<Integer, String> values = new TreeMap<>();
            for (int resource : instance.getAvailableResourceIds(object.getObjectModel())) {
                var answer = instance.read(LwM2mServer.SYSTEM, resource);
                if (answer.isSuccess()) {
                    var content = (org.eclipse.leshan.core.node.LwM2mResource) answer.getContent();
                    values.put(
                            resource,
                            content.isMultiInstances()
                                    ? content.getInstances().values().stream()
                                            .map(each -> each.getId() + ":" + shown(each.getValue()))
                                            .sorted().toList().toString().replace(" ", "")
                                    : shown(content.getValue()));
                }
            }
            StringBuilder line = new StringBuilder("account /" + object.getId() + "/" + id);
            values.forEach((resource, value) -> line.append(' ').append(resource).append('=').append(value));
            say(line.toString());
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String endpoint = arguments[1];
        String preferred = arguments[2];

        ObjectsInitializer objects = new ObjectsInitializer();
        objects.setInstancesForObject(SECURITY, account(url, arguments));
        objects.setClassForObject(SERVER, Server.class);
        objects.setInstancesForObject(DEVICE, new Device("Leshan", "bootstrapped", "00-11-22"));
        objects.setClassForObject(ACCESS_CONTROL, SimpleInstanceEnabler.class);
        List<LwM2mObjectEnabler> enablers = objects.create(SECURITY, SERVER, ACCESS_CONTROL, DEVICE);

        LeshanClientBuilder builder = new LeshanClientBuilder(endpoint);
        builder.setObjects(enablers);
        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        if (!preferred.equals("-")) {
            engine.setPreferredContentFormat(ContentFormat.fromName(preferred));
        }
        engine.setRetryWaitingTimeInMs(1_000);
        engine.setBootstrapSessionTimeoutInSec(Integer.getInteger("session", 93));
        CaliforniumClientEndpointsProvider.Builder endpoints = new CaliforniumClientEndpointsProvider.Builder(
                new CoapClientProtocolProvider(), new CoapsClientProtocolProvider());
        Configuration configuration = endpoints.createDefaultConfiguration();
        // The suites that LwM2M names are among those that Scandium no longer recommends.
        configuration.set(DtlsConfig.DTLS_RECOMMENDED_CIPHER_SUITES_ONLY, false);
        endpoints.setConfiguration(configuration);
        builder.setRegistrationEngineFactory(engine);
        builder.setEndpointsProviders(endpoints.build());
        LeshanClient client = builder.build();
        client.addObserver(new LwM2mClientObserverAdapter() {
            @Override
            public void onBootstrapStarted(LwM2mServer server, BootstrapRequest request) {
                say("bootstrap started " + server.getUri());
            }

            @Override
            public void onBootstrapSuccess(LwM2mServer server, BootstrapRequest request) {
                say("bootstrapped");
            }

            @Override
            public void onBootstrapFailure(
                    LwM2mServer server, BootstrapRequest request, ResponseCode code, String text, Exception cause) {
                say("bootstrap refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onBootstrapTimeout(LwM2mServer server, BootstrapRequest request) {
                say("bootstrap silent");
            }

            @Override
            public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String location) {
                say("registered " + server.getUri() + " " + location);
            }

            @Override
            public void onRegistrationFailure(
                    LwM2mServer server, RegisterRequest request, ResponseCode code, String text, Exception cause) {
                say("register refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onRegistrationTimeout(LwM2mServer server, RegisterRequest request) {
                say("register silent " + server.getUri());
            }

            @Override
            public void onUpdateSuccess(LwM2mServer server, UpdateRequest request) {
                say("updated");
            }

            @Override
            public void onUnexpectedError(Throwable error) {
                say("error " + error);
            }
        });
        client.start();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            switch (line.trim()) {
                case "accounts" -> {
                    enablers.stream().filter(each -> each.getId() < DEVICE).forEach(BootstrapClient::tell);
                    say("accounts told");
                }
                case "update" -> client.triggerRegistrationUpdate();
                case "again" -> {
                    client.stop(false);
                    client.start();
                }
                case "stop" -> {
                    client.destroy(true);
                    say("stopped");
                    System.exit(0);
                }
                default -> say("unknown order " + line);
            }
        }
        client.destroy(true);
    }
}
