import static org.eclipse.leshan.core.LwM2mId.DEVICE;
import static org.eclipse.leshan.core.LwM2mId.LOCATION;
import static org.eclipse.leshan.core.LwM2mId.SECURITY;
import static org.eclipse.leshan.core.LwM2mId.SERVER;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.BaseInstanceEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.resource.SimpleInstanceEnabler;
import org.eclipse.leshan.client.send.ManualDataSender;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel;
import org.eclipse.leshan.core.model.ResourceModel.Operations;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.model.StaticModel;
import org.eclipse.leshan.core.node.LwM2mPath;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.request.BindingMode;
import org.eclipse.leshan.core.request.ContentFormat;
import org.eclipse.leshan.core.request.DeregisterRequest;
import org.eclipse.leshan.core.request.RegisterRequest;
import org.eclipse.leshan.core.request.UpdateRequest;
import org.eclipse.leshan.core.request.argument.Arguments;
import org.eclipse.leshan.core.response.ExecuteResponse;
import org.eclipse.leshan.core.response.ReadResponse;
import org.eclipse.leshan.core.response.WriteResponse;
import org.eclipse.leshan.transport.californium.client.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coap.CoapClientProtocolProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coaps.CoapsClientProtocolProvider;

/**
 * A small device on Leshan's client and Californium: objects 1, 3, 6, 16 (which the server may create and delete) and
 * 3442 (a resource of every type), one server. It says on stdout what happens ("registered", "wrote 15
 * Europe/Berlin", ...) and takes "update", "battery N", "send", "collect" and "flush" (a Send of what was collected, with
 * times) and "stop" (which de-registers) on stdin. "again" forgets the registration without a word and registers anew.
 *
 * <p>Arguments: server URL, endpoint name, lifetime in seconds, format of answers (TLV, SENML_CBOR, ...), and "queue" to
 * register in queue mode. With a coaps URL more follow: "psk", identity and key (hex), or "rpk" or "x509" and a folder
 * with client-key.pem, client-public.pem or client.pem, and server-public.pem or server.pem; then the length of the
 * connection ID it wants (-1: none at all), and "reconnect" for a handshake, resumed where the server lets it, before
 * each update.
 */
public final class InteropClient {

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** Object 3. */
    public static final class Device extends BaseInstanceEnabler {
        private String timezone = "UTC";
        private String offset = "+00";
        private long battery = 77;

        void discharge(long level) {
            battery = level;
            fireResourceChange(9);
        }

        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            return switch (resource) {
                case 0 -> ReadResponse.success(resource, "Leshan");
                case 1 -> ReadResponse.success(resource, "interop");
                case 2 -> ReadResponse.success(resource, "00-11-22");
                case 3 -> ReadResponse.success(resource, "2.0.0");
                case 9 -> ReadResponse.success(resource, battery);
                case 11 -> ReadResponse.success(resource, Map.of(0, 0L), Type.INTEGER);
                case 13 -> ReadResponse.success(resource, new Date(1_700_000_000_000L));
                case 14 -> ReadResponse.success(resource, offset);
                case 15 -> ReadResponse.success(resource, timezone);
                case 16 -> ReadResponse.success(resource, "U");
                default -> super.read(server, resource);
            };
        }

        @Override
        public WriteResponse write(LwM2mServer server, boolean replace, int resource, LwM2mResource value) {
            switch (resource) {
                case 14 -> offset = (String) value.getValue();
                case 15 -> timezone = (String) value.getValue();
                default -> {
                    return super.write(server, replace, resource, value);
                }
            }
            say("wrote " + resource + " " + value.getValue());
            return WriteResponse.success();
        }

        @Override
        public ExecuteResponse execute(LwM2mServer server, int resource, Arguments arguments) {
            say("executed " + resource + " " + (arguments == null ? "" : arguments.serialize()));
            return resource == 4 || resource == 12 ? ExecuteResponse.success() : ExecuteResponse.methodNotAllowed();
        }

        @Override
        public List<Integer> getAvailableResourceIds(ObjectModel model) {
            return List.of(0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 15, 16);
        }
    }

    /** Object 6. */
    public static final class Location extends BaseInstanceEnabler {
        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            return switch (resource) {
                case 0 -> ReadResponse.success(resource, 52.5);
                case 1 -> ReadResponse.success(resource, 13.25);
                case 5 -> ReadResponse.success(resource, new Date(1_700_000_000_000L));
                default -> super.read(server, resource);
            };
        }

        @Override
        public List<Integer> getAvailableResourceIds(ObjectModel model) {
            return List.of(0, 1, 5);
        }
    }

    private static final int PORTFOLIO = 16;
    private static final int TEST = 3442;
    private static final List<String> COLLECTED = List.of("/3/0/9", "/3/0/11/0");

    private static byte[] pem(String folder, String name) throws Exception {
        String text = Files.readString(Path.of(folder, name + ".pem"));
        String first = text.substring(0, text.indexOf("-----END"));
        return Base64.getDecoder().decode(first.replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", ""));
    }

    private static Security security(String url, String[] words) throws Exception {
        if (!url.startsWith("coaps:")) {
            return Security.noSec(url, 123);
        }
        return switch (words[5]) {
            case "psk" -> Security.psk(url, 123, words[6].getBytes("UTF-8"), HexFormat.of().parseHex(words[7]));
            case "rpk" -> Security.rpk(
                    url, 123, pem(words[6], "client-public"), pem(words[6], "client-key"),
                    pem(words[6], "server-public"));
            case "x509" -> Security.x509(
                    url, 123, pem(words[6], "client"), pem(words[6], "client-key"), pem(words[6], "server"));
            default -> throw new IllegalArgumentException(words[5]);
        };
    }

    private static ObjectModel portfolio() {
        return new ObjectModel(
                PORTFOLIO, "Portfolio", "", "1.0", true, false,
                new ResourceModel(0, "Identity", Operations.RW, true, true, Type.STRING, "", "", ""));
    }

    /** The same numbers as in the object of that name: hundreds say the type, a thousand more is a multiple resource. */
    private static ObjectModel testObject() {
        List<ResourceModel> resources = new ArrayList<>();
        Map<Integer, Type> types = Map.of(
                110, Type.STRING, 120, Type.INTEGER, 125, Type.UNSIGNED_INTEGER, 130, Type.FLOAT, 140, Type.BOOLEAN,
                150, Type.OPAQUE, 160, Type.TIME, 170, Type.OBJLNK, 180, Type.CORELINK);
        types.forEach((id, type) -> {
            resources.add(new ResourceModel(id, type.name(), Operations.RW, false, false, type, "", "", ""));
            resources.add(new ResourceModel(1000 + id, type.name(), Operations.RW, true, false, type, "", "", ""));
        });
        return new ObjectModel(TEST, "Test", "", "1.0", true, false, resources);
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String endpoint = arguments[1];
        long lifetime = Long.parseLong(arguments[2]);
        ContentFormat format = ContentFormat.fromName(arguments.length > 3 ? arguments[3] : "SENML_CBOR");

        Device device = new Device();
        List<ObjectModel> models = new ArrayList<>(ObjectLoader.loadDefault());
        models.add(portfolio());
        models.add(testObject());
        ObjectsInitializer objects = new ObjectsInitializer(new StaticModel(models));
        boolean isSecure = url.startsWith("coaps:");
        objects.setInstancesForObject(SECURITY, security(url, arguments));
        objects.setInstancesForObject(
                SERVER, new Server(123, lifetime, EnumSet.of(BindingMode.U), false, BindingMode.U));
        objects.setInstancesForObject(DEVICE, device);
        objects.setInstancesForObject(LOCATION, new Location());
        objects.setDefaultContentFormat(DEVICE, format);
        objects.setClassForObject(PORTFOLIO, SimpleInstanceEnabler.class);
        objects.setInstancesForObject(TEST, new SimpleInstanceEnabler(0));

        LeshanClientBuilder builder = new LeshanClientBuilder(endpoint);
        builder.setObjects(objects.create(SECURITY, SERVER, DEVICE, LOCATION, PORTFOLIO, TEST));
        builder.setDataSenders(new ManualDataSender());
        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        engine.setQueueMode(arguments.length > 4 && arguments[4].equals("queue"));
        CaliforniumClientEndpointsProvider.Builder endpoints = new CaliforniumClientEndpointsProvider.Builder(
                new CoapClientProtocolProvider(), new CoapsClientProtocolProvider());
        if (isSecure) {
            int next = arguments[5].equals("psk") ? 8 : 7;
            int cid = Integer.parseInt(arguments[next]);
            Configuration configuration = endpoints.createDefaultConfiguration();
            configuration.set(DtlsConfig.DTLS_CONNECTION_ID_LENGTH, cid < 0 ? null : (Integer) cid);
            // The suites that LwM2M names are among those that Scandium no longer recommends.
            configuration.set(DtlsConfig.DTLS_RECOMMENDED_CIPHER_SUITES_ONLY, false);
            endpoints.setConfiguration(configuration);
            engine.setReconnectOnUpdate(arguments.length > next + 1 && arguments[next + 1].equals("reconnect"));
        }
        builder.setRegistrationEngineFactory(engine);
        builder.setEndpointsProviders(endpoints.build());
        LeshanClient client = builder.build();
        client.addObserver(new LwM2mClientObserverAdapter() {
            @Override
            public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String location) {
                say("registered " + location);
            }

            @Override
            public void onRegistrationFailure(
                    LwM2mServer server, RegisterRequest request, ResponseCode code, String text, Exception cause) {
                say("register refused " + code);
            }

            @Override
            public void onUpdateSuccess(LwM2mServer server, UpdateRequest request) {
                say("updated");
            }

            @Override
            public void onUpdateFailure(
                    LwM2mServer server, UpdateRequest request, ResponseCode code, String text, Exception cause) {
                say("update refused " + code);
            }

            @Override
            public void onDeregistrationSuccess(LwM2mServer server, DeregisterRequest request) {
                say("deregistered");
            }

            @Override
            public void onUnexpectedError(Throwable error) {
                say("error " + error);
            }
        });
        client.start();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.trim().split(" ");
            switch (words[0]) {
                case "update" -> client.triggerRegistrationUpdate();
                case "send" -> {
                    LwM2mServer server = client.getRegisteredServers().values().iterator().next();
                    say("sent " + client.getSendService()
                            .sendData(server, ContentFormat.SENML_CBOR, List.of("/3/0/9", "/3/0/15"), 5000)
                            .getCode());
                }
                case "collect" -> {
                    client.getSendService()
                            .getDataSender(ManualDataSender.DEFAULT_NAME, ManualDataSender.class)
                            .collectData(COLLECTED.stream().map(LwM2mPath::new).toList());
                    say("collected");
                }
                case "flush" -> {
                    client.getSendService()
                            .getDataSender(ManualDataSender.DEFAULT_NAME, ManualDataSender.class)
                            .sendCollectedData(
                                    client.getRegisteredServers().values().iterator().next(),
                                    ContentFormat.fromName(words[1]), 5000, false);
                    say("flushed");
                }
                case "again" -> {
                    client.stop(false);
                    client.start();
                }
                case "battery" -> device.discharge(Long.parseLong(words[1]));
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
